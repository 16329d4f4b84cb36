#include "dataset.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PATH_CAPACITY = 256 };

static const char cure[] = "`roost data import` makes x.npy and y.npy";

static npy read_member(const char *name, const char *member, char path[PATH_CAPACITY]) {
    snprintf(path, PATH_CAPACITY, DATA_DIR "/%s/%s", name, member);
    return npy_read(path, cure);
}

static void check_counts(const npy *x, const npy *y, size_t features) {
    if (x->rows == 0 || x->columns == 0)
        fail(EXIT_BAD_INPUT, "%s holds no samples; %s", x->path, cure);
    if (x->columns != features) {
        fail(EXIT_BAD_INPUT,
             "%s has %zu numbers per sample but the model takes %zu; use data and a "
             "model that fit each other",
             x->path, x->columns, features);
    }
    if (y->columns != 1) {
        fail(EXIT_BAD_INPUT, "%s has %zu numbers per sample; one integer label each is needed",
             y->path, y->columns);
    }
    if (x->rows != y->rows) {
        fail(EXIT_BAD_INPUT, "%s has %zu samples but %s has %zu labels; they must be equally many",
             x->path, x->rows, y->path, y->rows);
    }
    if (y->kind == 'f') {
        fail(EXIT_BAD_INPUT, "%s holds floats; save its labels as integers with .astype('<i8')",
             y->path);
    }
}

static uint32_t *read_labels(const npy *y, size_t classes) {
    uint32_t *labels = allocate(y->rows, sizeof *labels, y->path);
    for (size_t i = 0; i < y->rows; i++) {
        int64_t label = npy_integer(y, i);
        if (label < 0 || (uint64_t)label >= classes) {
            fail(EXIT_BAD_INPUT,
                 "%s: label %zu is %lld but the model knows labels 0 to %zu; relabel "
                 "the data or use a model with more classes",
                 y->path, i, (long long)label, classes - 1);
        }
        labels[i] = (uint32_t)label;
    }
    return labels;
}

static float scaled(const dataset *d, size_t item) {
    return (float)(npy_real(&d->x, item) * d->scale);
}

static void check_finite(const dataset *d) {
    size_t items = d->count * d->features;
    if (d->x.kind != 'f') return; /* 2^64 times the largest scale, 1e12, is finite in float32 */
    for (size_t i = 0; i < items; i++) {
        if (isfinite(scaled(d, i))) continue;
        fail(EXIT_BAD_INPUT,
             "%s: sample %zu, number %zu is not finite as a float32; clean the data%s", d->x.path,
             i / d->features, i % d->features, d->scale == 1 ? "" : " or lower \"scale\"");
    }
}

dataset load_dataset(const char *name, double scale, size_t features, size_t classes) {
    static char x_path[PATH_CAPACITY], y_path[PATH_CAPACITY];
    snprintf(x_path, sizeof x_path, DATA_DIR "/%s", name);
    if (!is_directory(x_path)) {
        fail(EXIT_BAD_INPUT,
             "no data at %s: the proplet needs a mount called %s (`roost data import` "
             "or `roost data digits` makes one)",
             x_path, name);
    }
    npy x = read_member(name, "x.npy", x_path);
    npy y = read_member(name, "y.npy", y_path);
    check_counts(&x, &y, features);
    dataset d = {.x = x, .count = x.rows, .features = features, .scale = scale};
    check_finite(&d);
    d.labels = read_labels(&y, classes);
    if (x.kind == 'u' && x.item_size == 1) {
        d.table = allocate(256, sizeof *d.table, "a table of pixel values");
        for (int i = 0; i < 256; i++) d.table[i] = (float)(i * scale);
    }
    return d;
}

void sample_row(const dataset *d, size_t index, float *out) {
    size_t start = index * d->features;
    if (d->table != NULL) {
        for (size_t i = 0; i < d->features; i++) out[i] = d->table[d->x.data[start + i]];
    } else if (d->x.kind == 'f' && d->x.item_size == sizeof *out && d->scale == 1) {
        memcpy(out, d->x.data + start * sizeof *out, d->features * sizeof *out);
    } else {
        for (size_t i = 0; i < d->features; i++) out[i] = scaled(d, start + i);
    }
}
