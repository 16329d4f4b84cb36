/* A multilayer perceptron: dense layers, ReLU between them, no activation after the last.
 *
 * One output means binary logistic regression (labels 0 and 1); more mean softmax. Regression
 * without hidden layers is the network of depth 1. */
#ifndef ROOST_NETWORK_H
#define ROOST_NETWORK_H

#include "dataset.h"
#include "kernels.h"

enum { MAX_DEPTH_OF_NETWORK = 64 };

typedef struct {
    size_t inputs, outputs; /* as in the model */
    size_t padded_inputs, padded_outputs; /* as in memory */
    parameters weights; /* panels, see kernels.h */
    parameters bias; /* (padded_outputs,) */
} layer;

typedef struct {
    size_t depth;
    layer layers[MAX_DEPTH_OF_NETWORK];
} network;

/* Room for a batch: activations[0] is the input, activations[i + 1] what layer i gives. */
typedef struct {
    float *activations[MAX_DEPTH_OF_NETWORK + 1];
    float *gradients[MAX_DEPTH_OF_NETWORK + 1]; /* d loss / d activations; NULL when evaluating */
    uint32_t *labels;
} workspace;

typedef struct {
    double loss; /* cross-entropy summed over samples, in nats, without penalties */
    size_t correct; /* samples whose label scores highest */
    size_t count;
} score;

/* Appends a layer of zeros; `inputs` and `outputs` are at least 1. */
layer *add_layer(network *net, size_t inputs, size_t outputs);

/* Where weight (output, input) of a layer lies in its panels. */
size_t weight_at(const layer *l, size_t output, size_t input);

/* The number of classes the labels come from: 2 for one output. */
size_t classes(const network *net);

workspace make_workspace(const network *net, size_t batch_size, bool training);

/* Forward pass over the samples that `indices` names, added to `total`. When `learn` is not NULL,
 * also one step of gradient descent on the batch's mean loss. */
void run_batch(network *net, workspace *w, const dataset *data, const uint32_t *indices,
               size_t rows, const step_rule *learn, score *total);

/* False where a parameter is infinite or not a number. */
bool all_finite(const network *net);

#endif
