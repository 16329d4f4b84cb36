#include "kernels.h"

typedef float vec __attribute__((vector_size(16)));

enum { LANES = 4, VECTORS = PANEL / LANES, TILE = 3 };

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }
INLINE vec splat(float value) { return (vec){value, value, value, value}; }

size_t padded(size_t width) {
    size_t panels = width / PANEL + (width % PANEL != 0);
    return checked_mul(panels, PANEL, "a layer");
}

/* Adds to acc[r] the sum over i of a[r * across + i * along] * panel_row(i), for r < rows.
 * `rows`, `across` and `stride` become constants where the caller gives constants. */
INLINE void accumulate(int rows, const float *a, size_t across, size_t along, const float *b,
                       size_t stride, size_t steps, vec acc[TILE][VECTORS]) {
    for (size_t i = 0; i < steps; i++, a += along, b += stride) {
        vec b0 = load(b), b1 = load(b + LANES), b2 = load(b + 2 * LANES);
        for (int r = 0; r < rows; r++) {
            vec x = splat(a[(size_t)r * across]);
            acc[r][0] += x * b0;
            acc[r][1] += x * b1;
            acc[r][2] += x * b2;
        }
    }
}

typedef struct {
    const float *in, *weights, *bias;
    float *out;
    size_t inputs, outputs;
    bool relu;
} forward_tile;

INLINE void forward_rows(int rows, const forward_tile *t) {
    vec acc[TILE][VECTORS];
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < VECTORS; v++) acc[r][v] = load(t->bias + v * LANES);
    }
    accumulate(rows, t->in, t->inputs, 1, t->weights, PANEL, t->inputs, acc);
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < VECTORS; v++) {
            vec sum = acc[r][v];
            if (t->relu) sum = (vec)((sum > 0) & (__typeof__(sum > 0))sum);
            store(t->out + (size_t)r * t->outputs + v * LANES, sum);
        }
    }
}

/* Rows of the next tile: as few tiles as possible, but 2 + 2 rather than 3 + 1. */
INLINE size_t tile_rows(size_t left) { return left == 4 ? 2 : left < TILE ? left : TILE; }

void dense_forward(const float *in, size_t rows, size_t inputs, const float *weights,
                   const float *bias, size_t outputs, bool relu, float *out) {
    for (size_t p = 0; p < outputs; p += PANEL) {
        forward_tile t = {in, weights + p * inputs, bias + p, out + p, inputs, outputs, relu};
        for (size_t left = rows, now; left > 0; left -= now) {
            now = tile_rows(left);
            if (now == 3) forward_rows(3, &t);
            else if (now == 2) forward_rows(2, &t);
            else forward_rows(1, &t);
            t.in += now * inputs;
            t.out += now * outputs;
        }
    }
}

INLINE float sum(vec v) { return (v[0] + v[1]) + (v[2] + v[3]); }

typedef struct {
    const float *d_out, *weights, *in;
    float *d_in;
    size_t inputs, outputs;
} backward_tile;

/* Dot products of `rows` rows of d_out with 3 inputs' weights. */
INLINE void backward_rows(int rows, const backward_tile *t) {
    vec acc[TILE][TILE] = {0};
    const float *w = t->weights;
    for (size_t p = 0; p < t->outputs; p += PANEL, w += PANEL * t->inputs) {
        for (int v = 0; v < PANEL; v += LANES) {
            for (int r = 0; r < rows; r++) {
                vec d = load(t->d_out + (size_t)r * t->outputs + p + (size_t)v);
                for (int k = 0; k < TILE; k++) acc[r][k] += d * load(w + k * PANEL + v);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        size_t row = (size_t)r * t->inputs;
        for (size_t k = 0; k < TILE; k++) {
            t->d_in[row + k] = t->in[row + k] > 0 ? sum(acc[r][k]) : 0;
        }
    }
}

void dense_backward(const float *d_out, size_t rows, size_t outputs, const float *weights,
                    size_t inputs, const float *in, float *d_in) {
    for (size_t k = 0; k < inputs; k += TILE) {
        backward_tile t = {d_out, weights + k * PANEL, in + k, d_in + k, inputs, outputs};
        for (size_t left = rows, now; left > 0; left -= now) {
            now = tile_rows(left);
            if (now == 3) backward_rows(3, &t);
            else if (now == 2) backward_rows(2, &t);
            else backward_rows(1, &t);
            t.d_out += now * outputs;
            t.in += now * inputs;
            t.d_in += now * inputs;
        }
    }
}

INLINE void step(vec gradient, parameters p, size_t at, const step_rule *rule) {
    vec value = load(p.values + at);
    gradient += splat(rule->weight_decay) * value;
    if (p.base != NULL) gradient += splat(rule->proximal_mu) * (value - load(p.base + at));
    if (p.velocity != NULL) {
        gradient += splat(rule->momentum) * load(p.velocity + at);
        store(p.velocity + at, gradient);
    }
    store(p.values + at, value - splat(rule->lr) * gradient);
}

/* The whole matrix with `plain` known at compile time: plain SGD keeps nothing but the weights. */
INLINE void step_panels(bool plain, const float *in, const float *d_out, size_t rows, size_t inputs,
                        size_t outputs, parameters weights, const step_rule *rule) {
    vec lr = splat(rule->lr);
    for (size_t p = 0; p < outputs; p += PANEL) {
        for (size_t k = 0; k < inputs; k += TILE) {
            vec acc[TILE][VECTORS] = {0};
            accumulate(TILE, in + k, 1, inputs, d_out + p, outputs, rows, acc);
            size_t at = p * inputs + k * PANEL;
            for (size_t i = 0; i < TILE * VECTORS; i++, at += LANES) {
                vec gradient = acc[i / VECTORS][i % VECTORS];
                if (plain) store(weights.values + at, load(weights.values + at) - lr * gradient);
                else step(gradient, weights, at, rule);
            }
        }
    }
}

void step_weights(const float *in, const float *d_out, size_t rows, size_t inputs, size_t outputs,
                  parameters weights, const step_rule *rule) {
    bool plain = weights.velocity == NULL && weights.base == NULL && rule->weight_decay == 0;
    if (plain) step_panels(true, in, d_out, rows, inputs, outputs, weights, rule);
    else step_panels(false, in, d_out, rows, inputs, outputs, weights, rule);
}

void step_bias(const float *d_out, size_t rows, size_t outputs, parameters bias,
               const step_rule *rule) {
    for (size_t at = 0; at < outputs; at += LANES) {
        vec gradient = {0};
        for (size_t r = 0; r < rows; r++) gradient += load(d_out + r * outputs + at);
        step(gradient, bias, at, rule);
    }
}
