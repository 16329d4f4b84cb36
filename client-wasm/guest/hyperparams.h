/* The HYPERPARAMS environment variable: a JSON object. */
#ifndef ROOST_HYPERPARAMS_H
#define ROOST_HYPERPARAMS_H

#include "common.h"

enum { NAME_CAPACITY = 65 };

typedef struct {
    size_t epochs; /* passes over the data, 1 .. 100,000 */
    float lr; /* step size, above 0, at most 1,000 */
    size_t batch_size; /* samples per step, 1 .. 1,048,576 */
    float momentum; /* 0 .. below 1 */
    float weight_decay; /* 0 .. 1,000; on weights and biases alike */
    float proximal_mu; /* FedProx's mu, 0 .. 1,000 */
    double scale; /* multiplies x; above 0, at most 1e12 */
    bool has_seed; /* else the seed derives from ROUND_ID and PROPLET_ID */
    uint64_t seed;
    char dataset[NAME_CAPACITY]; /* the folder below /data */
} hyperparams;

/* `text` may be NULL or blank: all defaults. */
hyperparams parse_hyperparams(const char *text);

#endif
