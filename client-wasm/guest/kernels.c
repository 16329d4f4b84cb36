#include "kernels.h"

typedef float vec __attribute__((vector_size(16)));

#define LANES ((size_t)4)
#define VECTORS ((size_t)3)
#define TILE ((size_t)3)

/* OPAQUE(x) hides from the C compiler where x comes from. A pointer then keeps its constant offsets
 * inside the load instructions, and a float reaches all lanes without passing through an integer
 * register: Cranelift mends neither by itself. Together they save 15 % of an epoch in Wasm; native
 * code is better off without. */
#ifdef __wasm__
#define OPAQUE(x) __asm__("" : "+r"(x))
#else
#define OPAQUE(x) ((void)(x))
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }
INLINE vec splat(float value) { return (vec){value, value, value, value}; }

size_t padded(size_t width) {
    size_t panels = width / PANEL + (width % PANEL != 0);
    return checked_mul(panels, PANEL, "a layer");
}

/* Where a tile reads: a[row * across + step * along] and 12 numbers from b[step * stride]. */
typedef struct {
    const float *a, *b;
    size_t across, along, stride;
} operands;

/* Adds to acc[r] the sum of a * b over `steps` steps, for r < rows. What the callers give as
 * constants (rows, strides) is folded in. Unrolling by hand made it slower: the sums spill. */
INLINE void accumulate(size_t rows, operands o, size_t steps, vec acc[TILE][VECTORS]) {
    const float *a[TILE] = {o.a, o.a + o.across, o.a + 2 * o.across};
    for (size_t i = 0; i < steps; i++, o.b += o.stride) {
        OPAQUE(o.b);
        for (size_t r = 0; r < rows; r++) {
            /* Neighbours share one pointer; rows far apart have one each. */
            if (r > 0 && o.across == 1) a[r] = a[0] + r;
            else OPAQUE(a[r]);
        }
        vec b0 = load(o.b), b1 = load(o.b + LANES), b2 = load(o.b + 2 * LANES);
        for (size_t r = 0; r < rows; r++) {
            float scalar = *a[r];
            OPAQUE(scalar);
            vec x = splat(scalar);
            acc[r][0] += x * b0;
            acc[r][1] += x * b1;
            acc[r][2] += x * b2;
        }
        for (size_t r = 0; r < rows; r++) a[r] += o.along;
    }
}

typedef struct {
    const float *in, *weights, *bias;
    float *out;
    size_t inputs, outputs;
    bool relu;
} forward_tile;

INLINE void forward_rows(size_t rows, const forward_tile *t) {
    vec acc[TILE][VECTORS];
    for (size_t r = 0; r < rows; r++) {
        for (size_t v = 0; v < VECTORS; v++) acc[r][v] = load(t->bias + v * LANES);
    }
    operands o = {t->in, t->weights, t->inputs, 1, PANEL};
    accumulate(rows, o, t->inputs, acc);
    for (size_t r = 0; r < rows; r++) {
        for (size_t v = 0; v < VECTORS; v++) {
            vec sum = acc[r][v];
            if (t->relu) sum = (vec)((sum > 0) & (__typeof__(sum > 0))sum);
            store(t->out + r * t->outputs + v * LANES, sum);
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
INLINE void backward_rows(size_t rows, const backward_tile *t) {
    vec acc[TILE][TILE] = {0};
    const float *w = t->weights;
    for (size_t p = 0; p < t->outputs; p += PANEL, w += PANEL * t->inputs) {
        const float *d = t->d_out + p, *from = w;
#pragma clang loop unroll(disable) /* nine sums and three steps' loads would spill */
        for (size_t v = 0; v < PANEL; v += LANES, d += LANES, from += LANES) {
            OPAQUE(d);
            OPAQUE(from);
            vec w0 = load(from), w1 = load(from + PANEL), w2 = load(from + (size_t)2 * PANEL);
            for (size_t r = 0; r < rows; r++) {
                vec x = load(d + r * t->outputs);
                acc[r][0] += x * w0;
                acc[r][1] += x * w1;
                acc[r][2] += x * w2;
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        size_t row = r * t->inputs;
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

/* Plain SGD needs nothing but the weights, here those of one tile. */
INLINE void step_plain(vec acc[TILE][VECTORS], float *weights, vec lr) {
    OPAQUE(weights);
    for (size_t i = 0; i < TILE * VECTORS; i++) {
        float *w = weights + i * LANES;
        store(w, load(w) - lr * acc[i / VECTORS][i % VECTORS]);
    }
}

/* The whole matrix, with `plain` known at compile time. */
INLINE void step_panels(bool plain, const float *in, const float *d_out, size_t rows, size_t inputs,
                        size_t outputs, parameters weights, const step_rule *rule) {
    vec lr = splat(rule->lr);
    for (size_t p = 0; p < outputs; p += PANEL) {
        for (size_t k = 0; k < inputs; k += TILE) {
            vec acc[TILE][VECTORS] = {0};
            operands o = {in + k, d_out + p, 1, inputs, outputs};
            accumulate(TILE, o, rows, acc);
            size_t at = p * inputs + k * PANEL;
            if (plain) {
                step_plain(acc, weights.values + at, lr);
                continue;
            }
            for (size_t i = 0; i < TILE * VECTORS; i++, at += LANES) {
                step(acc[i / VECTORS][i % VECTORS], weights, at, rule);
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
