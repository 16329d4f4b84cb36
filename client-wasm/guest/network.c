#include "network.h"

#include <math.h>

layer *add_layer(network *net, size_t inputs, size_t outputs) {
    layer *l = &net->layers[net->depth++];
    *l = (layer){.inputs = inputs,
                 .outputs = outputs,
                 .padded_inputs = padded(inputs),
                 .padded_outputs = padded(outputs)};
    size_t weights = checked_mul(l->padded_inputs, l->padded_outputs, "a layer");
    l->weights.values = allocate(weights, sizeof(float), "a layer's weights");
    l->bias.values = allocate(l->padded_outputs, sizeof(float), "a layer's bias");
    return l;
}

size_t weight_at(const layer *l, size_t output, size_t input) {
    size_t panel = output / PANEL * PANEL;
    return panel * l->padded_inputs + input * PANEL + output % PANEL;
}

size_t classes(const network *net) {
    size_t outputs = net->layers[net->depth - 1].outputs;
    return outputs == 1 ? 2 : outputs;
}

workspace make_workspace(const network *net, size_t batch_size, bool training) {
    workspace w = {0};
    w.labels = allocate(batch_size, sizeof *w.labels, "a batch");
    for (size_t i = 0; i <= net->depth; i++) {
        size_t width = i == 0 ? net->layers[0].padded_inputs : net->layers[i - 1].padded_outputs;
        size_t size = checked_mul(width, batch_size, "a batch");
        w.activations[i] = allocate(size, sizeof(float), "a batch (lower batch_size)");
        if (training && i > 0) {
            w.gradients[i] = allocate(size, sizeof(float), "a batch (lower batch_size)");
        }
    }
    return w;
}

/* Numerically stable log(1 + exp(-|z|)) forms, so that no finite score overflows. */
static double logistic_row(float z, uint32_t label, float weight, float *gradient, bool *correct) {
    float small = expf(-fabsf(z));
    float probability = z >= 0 ? 1 / (1 + small) : small / (1 + small);
    if (gradient != NULL) *gradient = (probability - (float)label) * weight;
    *correct = (z > 0) == (label == 1);
    return log1p((double)small) + (z > 0 ? (double)z : 0) - (label == 1 ? (double)z : 0);
}

static double softmax_row(const float *z, size_t count, uint32_t label, float weight,
                          float *gradient, bool *correct) {
    size_t best = 0;
    for (size_t k = 1; k < count; k++) {
        if (z[k] > z[best]) best = k;
    }
    *correct = best == label;
    double total = 0;
    for (size_t k = 0; k < count; k++) {
        float e = expf(z[k] - z[best]);
        if (gradient != NULL) gradient[k] = e;
        total += (double)e;
    }
    if (gradient != NULL) {
        float inverse = (float)(1 / total);
        for (size_t k = 0; k < count; k++) {
            gradient[k] = (gradient[k] * inverse - (k == label ? 1.0f : 0.0f)) * weight;
        }
    }
    return log(total) + (double)z[best] - (double)z[label];
}

/* Loss of the batch, and, when training, its gradient with respect to the scores. */
static void judge(const network *net, workspace *w, size_t rows, score *total) {
    const layer *last = &net->layers[net->depth - 1];
    float weight = 1 / (float)rows;
    for (size_t r = 0; r < rows; r++) {
        size_t row = r * last->padded_outputs;
        const float *z = w->activations[net->depth] + row;
        float *gradient = w->gradients[net->depth] == NULL ? NULL : w->gradients[net->depth] + row;
        bool correct;
        if (last->outputs == 1) {
            total->loss += logistic_row(*z, w->labels[r], weight, gradient, &correct);
        } else {
            total->loss += softmax_row(z, last->outputs, w->labels[r], weight, gradient, &correct);
        }
        total->correct += correct;
    }
    total->count += rows;
}

static void forward(const network *net, workspace *w, size_t rows) {
    for (size_t i = 0; i < net->depth; i++) {
        const layer *l = &net->layers[i];
        dense_forward(w->activations[i], rows, l->padded_inputs, l->weights.values, l->bias.values,
                      l->padded_outputs, i + 1 < net->depth, w->activations[i + 1]);
    }
}

static void backward(network *net, workspace *w, size_t rows, const step_rule *rule) {
    for (size_t i = net->depth; i-- > 0;) {
        layer *l = &net->layers[i];
        const float *in = w->activations[i], *d_out = w->gradients[i + 1];
        if (i > 0) { /* with the weights as they were, so before the step */
            dense_backward(d_out, rows, l->padded_outputs, l->weights.values, l->padded_inputs, in,
                           w->gradients[i]);
        }
        step_weights(in, d_out, rows, l->padded_inputs, l->padded_outputs, l->weights, rule);
        step_bias(d_out, rows, l->padded_outputs, l->bias, rule);
    }
}

void run_batch(network *net, workspace *w, const dataset *data, const uint32_t *indices,
               size_t rows, const step_rule *learn, score *total) {
    for (size_t r = 0; r < rows; r++) {
        sample_row(data, indices[r], w->activations[0] + r * net->layers[0].padded_inputs);
        w->labels[r] = data->labels[indices[r]];
    }
    forward(net, w, rows);
    judge(net, w, rows, total);
    if (learn != NULL) backward(net, w, rows, learn);
}

bool all_finite(const network *net) {
    for (size_t i = 0; i < net->depth; i++) {
        const layer *l = &net->layers[i];
        size_t weights = l->padded_inputs * l->padded_outputs;
        for (size_t k = 0; k < weights; k++) {
            if (!isfinite(l->weights.values[k])) return false;
        }
        for (size_t k = 0; k < l->padded_outputs; k++) {
            if (!isfinite(l->bias.values[k])) return false;
        }
    }
    return true;
}
