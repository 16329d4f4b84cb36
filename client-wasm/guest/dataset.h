/* The device's private data: samples from x.npy, labels from y.npy. */
#ifndef ROOST_DATASET_H
#define ROOST_DATASET_H

#include "common.h"
#include "npy.h"

typedef struct {
    npy x;
    size_t count; /* samples, at least 1 */
    size_t features; /* numbers per sample */
    uint32_t *labels; /* (count,), each below `classes` */
    double scale; /* a sample's number is float32(float64(x) * scale) */
    float *table; /* that number for each of a u1 array's 256 values, or NULL */
} dataset;

/* Loads /data/<name> for a model with `features` inputs and `classes` classes; refuses data of
 * another shape, labels out of range and numbers that are not finite in float32. */
dataset load_dataset(const char *name, double scale, size_t features, size_t classes);

/* Writes sample `index` to out[0 .. features-1]. */
void sample_row(const dataset *d, size_t index, float *out);

#endif
