/* The JSON form of models: {"w": ..., "b": ..., "version": N}; other keys are passed over. */
#include <math.h>
#include <string.h>

#include "json.h"
#include "model.h"
#include "text.h"

typedef struct {
    size_t dims; /* 0 number, 1 list, 2 list of lists */
    size_t rows, columns;
    float *values;
    size_t count, capacity;
} array;

static void append(json *j, array *a, const char *name) {
    char c = json_peek(j);
    if (c != '-' && (c < '0' || c > '9')) {
        if (c == '\0') json_fail(j, "the JSON is cut off inside \"%s\"", name);
        json_fail(j, "\"%s\" must hold numbers%s", name,
                  c == '[' ? ", in lists of equal depth" : "");
    }
    float value = (float)json_number(j);
    if (!isfinite(value)) json_fail(j, "\"%s\" holds a number beyond float32", name);
    if (a->count == a->capacity) {
        a->capacity = a->capacity == 0 ? 64 : checked_mul(a->capacity, 2, "a JSON list");
        a->values = reallocate(a->values, a->capacity, sizeof(float), "a JSON list");
    }
    a->values[a->count++] = value;
}

static size_t append_list(json *j, array *a, const char *name) {
    size_t before = a->count;
    bool first = true;
    json_expect(j, '[');
    while (json_element(j, &first)) append(j, a, name);
    return a->count - before;
}

static array read_array(json *j, const char *name) {
    array a = {0};
    if (json_peek(j) != '[') {
        append(j, &a, name);
        return a;
    }
    const char *start = j->at;
    json_expect(j, '[');
    a.dims = json_peek(j) == '[' ? 2 : 1;
    if (a.dims == 1) {
        j->at = start;
        a.rows = append_list(j, &a, name);
        return a;
    }
    for (bool first = true; json_element(j, &first); a.rows++) {
        size_t columns = append_list(j, &a, name);
        if (a.rows == 0) a.columns = columns;
        if (columns != a.columns) {
            json_fail(j, "\"%s\" has a row of %zu numbers after rows of %zu", name, columns,
                      a.columns);
        }
    }
    return a;
}

static void fill(model *m, const array *w, const array *b) {
    bool vector = w->dims == 1;
    size_t inputs = vector ? w->rows : w->columns;
    layer *l = add_layer(&m->net, inputs, vector ? 1 : w->rows);
    m->form = vector ? JSON_VECTOR : JSON_MATRIX;
    for (size_t o = 0; o < l->outputs; o++) {
        for (size_t k = 0; k < inputs; k++) {
            l->weights.values[weight_at(l, o, k)] = w->values[o * inputs + k];
        }
    }
    memcpy(l->bias.values, b->values, b->count * sizeof *b->values);
}

static void check(const json *j, const array *w, const array *b) {
    if (w->dims == 0 || w->count == 0) {
        json_fail(j, "\"w\" must be a list of numbers, or one list per class");
    }
    if (w->dims == 1 && b->dims != 0)
        json_fail(j, "\"b\" must be a number because \"w\" is a list of numbers");
    if (w->dims == 2 && (b->dims != 1 || b->rows != w->rows)) {
        json_fail(j, "\"b\" must be a list of %zu numbers, one per row of \"w\"", w->rows);
    }
}

void read_json_model(model *m, file_bytes file, const char *path) {
    json j = json_open(file.bytes, file.size, path);
    array w = {0}, b = {0};
    bool first = true, has_w = false, has_b = false;
    char key[8];
    json_expect(&j, '{');
    while (json_member(&j, &first, key, sizeof key)) {
        bool is_w = strcmp(key, "w") == 0, is_b = strcmp(key, "b") == 0;
        if ((is_w && has_w) || (is_b && has_b)) json_fail(&j, "\"%s\" is given twice", key);
        if (is_w) w = read_array(&j, key);
        else if (is_b) b = read_array(&j, key);
        else json_skip(&j);
        has_w = has_w || is_w;
        has_b = has_b || is_b;
    }
    json_finish(&j);
    if (!has_w || !has_b)
        json_fail(&j, "a model needs \"w\" and \"b\"; \"%s\" is missing", has_w ? "b" : "w");
    check(&j, &w, &b);
    fill(m, &w, &b);
}

static void put_number(FILE *out, float value) {
    char text[NUMBER_TEXT];
    float_text(value, text);
    fputs(text, out);
}

static void put_row(FILE *out, const layer *l, size_t output) {
    fputc('[', out);
    for (size_t k = 0; k < l->inputs; k++) {
        if (k > 0) fputc(',', out);
        put_number(out, l->weights.values[weight_at(l, output, k)]);
    }
    fputc(']', out);
}

void write_json_parameters(FILE *out, const model *m) {
    const layer *l = &m->net.layers[0];
    bool vector = m->form == JSON_VECTOR;
    fputs(vector ? "{\"w\":" : "{\"w\":[", out);
    for (size_t o = 0; o < l->outputs; o++) {
        if (o > 0) fputc(',', out);
        put_row(out, l, o);
    }
    fputs(vector ? ",\"b\":" : "],\"b\":[", out);
    for (size_t o = 0; o < l->outputs; o++) {
        if (o > 0) fputc(',', out);
        put_number(out, l->bias.values[o]);
    }
    fputs(vector ? "}" : "]}", out);
}
