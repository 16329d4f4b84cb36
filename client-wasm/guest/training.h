/* Epochs and evaluation over a data set. */
#ifndef ROOST_TRAINING_H
#define ROOST_TRAINING_H

#include "hyperparams.h"
#include "model.h"

typedef struct {
    double loss; /* mean cross-entropy per sample, in nats */
    double accuracy; /* 0 .. 1 */
    size_t num_samples;
} metrics;

/* Minibatch SGD in place. Prints one line per epoch. The metrics are the last epoch's, each sample
 * judged just before the step that learns from it. Fails where training leaves the finite. */
metrics train(model *m, const dataset *data, const hyperparams *h, uint64_t seed);

metrics evaluate(model *m, const dataset *data);

/* `"loss":..,"accuracy":..` */
void put_metrics(FILE *out, metrics result);

#endif
