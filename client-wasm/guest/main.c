/* fl-client: trains or evaluates one model on one device's data, as a WASI command. */
#include <stdlib.h>
#include <string.h>

#include "hyperparams.h"
#include "model.h"
#include "random.h"
#include "text.h"
#include "training.h"
#include "update.h"

enum { ID_LIMIT = 1024 };

static const char *required(const char *name) {
    const char *value = getenv(name);
    if (value == NULL || *value == '\0') {
        fail(EXIT_BAD_INPUT,
             "the environment variable %s is missing; training needs ROUND_ID, "
             "MODEL_URI and PROPLET_ID",
             name);
    }
    if (strlen(value) > ID_LIMIT || !is_utf8(value)) {
        fail(EXIT_BAD_INPUT, "%s must be UTF-8 text of at most %d bytes", name, ID_LIMIT);
    }
    return value;
}

static dataset matching_data(const model *m, const hyperparams *h) {
    return load_dataset(h->dataset, h->scale, m->net.layers[0].inputs, classes(&m->net));
}

static void run_training(void) {
    const char *round_id = required("ROUND_ID"), *proplet_id = required("PROPLET_ID");
    update_header header = {.round_id = round_id, .base_model_uri = required("MODEL_URI")};
    hyperparams h = parse_hyperparams(getenv("HYPERPARAMS"));
    model *m = read_model(IN_DIR "/model");
    dataset data = matching_data(m, &h);
    uint64_t seed = h.has_seed ? h.seed : derived_seed(round_id, proplet_id);
    header.result = train(m, &data, &h, seed);
    write_update(&header, m);
}

static void run_evaluation(void) {
    hyperparams h = parse_hyperparams(getenv("HYPERPARAMS"));
    model *m = read_model(IN_DIR "/model");
    dataset data = matching_data(m, &h);
    write_evaluation(evaluate(m, &data));
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "train";
    if (argc > 2) fail(EXIT_BAD_INPUT, "one argument at most: train or evaluate");
    if (strcmp(mode, "train") == 0) run_training();
    else if (strcmp(mode, "evaluate") == 0) run_evaluation();
    else fail(EXIT_BAD_INPUT, "unknown argument \"%s\": train or evaluate", mode);
    return 0;
}
