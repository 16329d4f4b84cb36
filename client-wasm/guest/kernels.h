/* The dense products of training, on 128-bit vectors.
 *
 * Panels. A weight matrix (outputs, inputs) lives as panels of PANEL = 12 outputs each: panel p
 * holds, for every input k in turn, the 12 weights of outputs 12p .. 12p+11. Both dimensions are
 * padded with zeros to multiples of 12; zeros stay zeros in training. A register tile of 3 rows x
 * 3 vectors then reads one panel front to back, which measured fastest on Cranelift.
 *
 * All matrices of activations are row-major with a padded width. All pointers are 16-byte aligned.
 * Sums run in one fixed order, so results repeat bit for bit. */
#ifndef ROOST_KERNELS_H
#define ROOST_KERNELS_H

#include "common.h"

enum { PANEL = 12 };

/* `width` rounded up to a multiple of PANEL; fails where that does not fit a size_t. */
size_t padded(size_t width);

/* out (rows, outputs) = in (rows, inputs) . weights^T + bias, then max(0, .) if `relu`. */
void dense_forward(const float *in, size_t rows, size_t inputs, const float *weights,
                   const float *bias, size_t outputs, bool relu, float *out);

/* d_in (rows, inputs) = d_out (rows, outputs) . weights where in > 0, else 0. */
void dense_backward(const float *d_out, size_t rows, size_t outputs, const float *weights,
                    size_t inputs, const float *in, float *d_in);

typedef struct {
    float lr, momentum, weight_decay, proximal_mu;
} step_rule;

/* What a step changes or reads beside the gradient; each laid out like the parameters. */
typedef struct {
    float *values;
    float *velocity; /* NULL without momentum */
    const float *base; /* the round's base parameters; NULL without a proximal term */
} parameters;

/* gradient = d_out^T . in, summed over rows, then one step on the panels of `weights`:
 *   g += weight_decay * w + proximal_mu * (w - base); v = momentum * v + g; w -= lr * v. */
void step_weights(const float *in, const float *d_out, size_t rows, size_t inputs, size_t outputs,
                  parameters weights, const step_rule *rule);

/* Likewise for the biases, whose gradient is d_out summed over rows. */
void step_bias(const float *d_out, size_t rows, size_t outputs, parameters bias,
               const step_rule *rule);

#endif
