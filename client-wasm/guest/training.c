#include "training.h"

#include <math.h>
#include <string.h>

#include "random.h"
#include "text.h"

enum { EVALUATION_BATCH = 256 };

static uint32_t *identity(size_t count) {
    uint32_t *order = allocate(count, sizeof *order, "the order of samples");
    for (size_t i = 0; i < count; i++) order[i] = (uint32_t)i;
    return order;
}

static metrics mean(score total) {
    double count = (double)total.count;
    return (metrics){total.loss / count, (double)total.correct / count, total.count};
}

static score run_all(model *m, workspace *w, const dataset *data, const uint32_t *order,
                     size_t batch_size, const step_rule *rule) {
    score total = {0};
    for (size_t start = 0, rows; start < data->count; start += rows) {
        size_t left = data->count - start;
        rows = left < batch_size ? left : batch_size;
        run_batch(&m->net, w, data, order + start, rows, rule, &total);
    }
    return total;
}

/* Room for velocities and a copy of the base parameters, where the rule uses them. */
static void prepare(parameters *p, size_t count, const step_rule *rule) {
    if (rule->momentum != 0) p->velocity = allocate(count, sizeof(float), "momentum");
    if (rule->proximal_mu != 0) {
        float *base = allocate(count, sizeof *base, "the proximal term");
        memcpy(base, p->values, count * sizeof *base);
        p->base = base;
    }
}

void put_metrics(FILE *out, metrics result) {
    char loss[NUMBER_TEXT], accuracy[NUMBER_TEXT];
    double_text(result.loss, loss);
    double_text(result.accuracy, accuracy);
    fprintf(out, "\"loss\":%s,\"accuracy\":%s", loss, accuracy);
}

static void report(metrics result, size_t epoch, size_t epochs) {
    printf("{\"event\":\"epoch_finished\",\"epoch\":%zu,\"epochs\":%zu,", epoch, epochs);
    put_metrics(stdout, result);
    printf(",\"num_samples\":%zu}\n", result.num_samples);
    fflush(stdout);
}

static void check_finite(const model *m, double loss, const hyperparams *h, size_t epoch) {
    if (isfinite(loss) && all_finite(&m->net)) return;
    fail(EXIT_DIVERGED,
         "training diverged in epoch %zu: the loss or a parameter is no longer finite; "
         "lower lr (now %g) or scale the data down",
         epoch, (double)h->lr);
}

metrics train(model *m, const dataset *data, const hyperparams *h, uint64_t seed) {
    step_rule rule = {h->lr, h->momentum, h->weight_decay, h->proximal_mu};
    for (size_t i = 0; i < m->net.depth; i++) {
        layer *l = &m->net.layers[i];
        prepare(&l->weights, l->padded_inputs * l->padded_outputs, &rule);
        prepare(&l->bias, l->padded_outputs, &rule);
    }
    size_t batch_size = h->batch_size < data->count ? h->batch_size : data->count;
    workspace w = make_workspace(&m->net, batch_size, true);
    uint32_t *order = identity(data->count);
    metrics result = {0};
    for (size_t epoch = 1; epoch <= h->epochs; epoch++) {
        shuffle(order, data->count, &seed);
        result = mean(run_all(m, &w, data, order, batch_size, &rule));
        check_finite(m, result.loss, h, epoch);
        report(result, epoch, h->epochs);
    }
    return result;
}

metrics evaluate(model *m, const dataset *data) {
    size_t batch_size = data->count < EVALUATION_BATCH ? data->count : EVALUATION_BATCH;
    workspace w = make_workspace(&m->net, batch_size, false);
    metrics result = mean(run_all(m, &w, data, identity(data->count), batch_size, NULL));
    if (!isfinite(result.loss)) {
        fail(EXIT_DIVERGED,
             "the loss is not finite: the model's scores overflow float32 on this data");
    }
    return result;
}
