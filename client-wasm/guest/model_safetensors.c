/* The safetensors form of models (https://github.com/huggingface/safetensors): u64 header length,
 * JSON header {name: {dtype, shape, data_offsets}}, then the tensors' bytes without gaps. */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "model.h"

enum { TENSORS = 2 * MAX_DEPTH_OF_NETWORK, NAME = 64, HEADER_LIMIT = 1 << 20 };

typedef struct {
    bool present;
    size_t dims, shape[2];
    uint64_t begin, end; /* in the bytes after the header */
} tensor;

typedef struct {
    tensor tensors[TENSORS]; /* layer i: weight at 2 i, bias at 2 i + 1 */
    const char *path, *data;
    size_t size;
} tensor_file;

/* The slot of "layers.{i}.weight" or "layers.{i}.bias". */
static size_t slot_of(const json *j, const char *name) {
    unsigned i = 0;
    int used = 0;
    const char *number = strncmp(name, "layers.", 7) == 0 ? name + 7 : "";
    while (used < 3 && number[used] >= '0' && number[used] <= '9') {
        i = i * 10 + (unsigned)(number[used++] - '0');
    }
    bool plain = used > 0 && (used == 1 || number[0] != '0');
    bool weight = strcmp(number + used, ".weight") == 0;
    if (!plain || (!weight && strcmp(number + used, ".bias") != 0)) {
        json_fail(j,
                  "unknown tensor \"%s\"; an MLP has layers.0.weight, layers.0.bias, "
                  "layers.1.weight and so on",
                  name);
    }
    if (i >= MAX_DEPTH_OF_NETWORK) {
        json_fail(j, "tensor \"%s\": at most %d layers are supported", name, MAX_DEPTH_OF_NETWORK);
    }
    return 2 * i + !weight;
}

static void read_shape(json *j, tensor *t, const char *name) {
    bool first = true;
    json_expect(j, '[');
    while (json_element(j, &first)) {
        uint64_t size = json_whole(j);
        if (t->dims == 2 || size == 0 || size > SIZE_MAX / sizeof(float)) {
            json_fail(j, "tensor \"%s\" has a shape that no layer has", name);
        }
        t->shape[t->dims++] = (size_t)size;
    }
}

static void read_offsets(json *j, tensor *t) {
    json_expect(j, '[');
    t->begin = json_whole(j);
    json_expect(j, ',');
    t->end = json_whole(j);
    json_expect(j, ']');
}

static void read_dtype(json *j, const char *name) {
    char dtype[8];
    json_string(j, dtype, sizeof dtype);
    if (strcmp(dtype, "F32") != 0) {
        json_fail(j, "tensor \"%s\" is %s; convert the model to F32", name, dtype);
    }
}

static tensor read_tensor(json *j, const char *name) {
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    tensor t = {.present = true};
    bool first = true, seen[3] = {false};
    char key[16];
    json_expect(j, '{');
    while (json_member(j, &first, key, sizeof key)) {
        size_t field = 0;
        while (field < 3 && strcmp(key, fields[field]) != 0) field++;
        if (field == 3) json_fail(j, "tensor \"%s\" has an unknown field \"%s\"", name, key);
        if (seen[field]) json_fail(j, "tensor \"%s\" has \"%s\" twice", name, key);
        seen[field] = true;
        if (field == 0) read_dtype(j, name);
        else if (field == 1) read_shape(j, &t, name);
        else read_offsets(j, &t);
    }
    if (!seen[0] || !seen[1] || !seen[2]) {
        json_fail(j, "tensor \"%s\" lacks dtype, shape or data_offsets", name);
    }
    return t;
}

static void read_metadata(json *j) {
    bool first = true;
    char key[NAME], value[NAME];
    json_expect(j, '{');
    while (json_member(j, &first, key, sizeof key)) {
        json_string(j, value, sizeof value);
        if (strcmp(key, "architecture") == 0 && strcmp(value, "mlp") != 0) {
            json_fail(j, "architecture is \"%s\"; this guest trains \"mlp\"", value);
        }
    }
}

static void read_header(tensor_file *f, json *j) {
    bool first = true, has_metadata = false;
    char name[NAME];
    json_expect(j, '{');
    while (json_member(j, &first, name, sizeof name)) {
        if (strcmp(name, "__metadata__") == 0) {
            if (has_metadata) json_fail(j, "__metadata__ is given twice");
            has_metadata = true;
            read_metadata(j);
            continue;
        }
        tensor *t = &f->tensors[slot_of(j, name)];
        if (t->present) json_fail(j, "tensor \"%s\" is given twice", name);
        *t = read_tensor(j, name);
    }
    json_finish(j);
}

/* Each tensor's bytes lie in the file, have its shape's size, overlap none, leave no gap. */
static void check_bytes(const tensor_file *f, size_t depth) {
    uint64_t total = 0;
    for (size_t s = 0; s < 2 * depth; s++) {
        const tensor *t = &f->tensors[s];
        const char *part = s % 2 == 0 ? "weight" : "bias";
        uint64_t items = t->shape[0];
        if (t->dims == 2) items = checked_mul(t->shape[0], t->shape[1], "a tensor");
        bool inside = t->begin <= t->end && t->end <= f->size;
        if (!inside || t->end - t->begin != items * sizeof(float)) {
            fail(EXIT_BAD_INPUT,
                 "%s: layers.%zu.%s needs %llu bytes; its data_offsets give others, or "
                 "the file of %zu bytes of data is cut off",
                 f->path, s / 2, part, (unsigned long long)(items * sizeof(float)), f->size);
        }
        for (size_t o = 0; o < s; o++) {
            if (t->begin < f->tensors[o].end && f->tensors[o].begin < t->end) {
                fail(EXIT_BAD_INPUT, "%s: layers.%zu.%s shares bytes with another tensor", f->path,
                     s / 2, part);
            }
        }
        total += t->end - t->begin;
    }
    if (total != f->size) {
        fail(EXIT_BAD_INPUT, "%s: its tensors cover %llu of %zu bytes; save the model again",
             f->path, (unsigned long long)total, f->size);
    }
}

/* The number of layers, each complete and fitting the one before. */
static size_t check_layers(const tensor_file *f) {
    size_t depth = 0;
    for (size_t s = 0; s < TENSORS; s++) {
        if (f->tensors[s].present) depth = s / 2 + 1;
    }
    if (depth == 0)
        fail(EXIT_BAD_INPUT, "%s holds no layers; an MLP has layers.0.weight and on", f->path);
    for (size_t i = 0; i < depth; i++) {
        const tensor *w = &f->tensors[2 * i], *b = w + 1;
        if (!w->present || !b->present) {
            fail(EXIT_BAD_INPUT, "%s: layers.%zu.%s is missing", f->path, i,
                 w->present ? "bias" : "weight");
        }
        if (w->dims != 2 || b->dims != 1 || b->shape[0] != w->shape[0]) {
            fail(EXIT_BAD_INPUT,
                 "%s: layers.%zu needs a weight of shape (out, in) and a bias of shape "
                 "(out)",
                 f->path, i);
        }
        if (i > 0 && w->shape[1] != w[-2].shape[0]) {
            fail(EXIT_BAD_INPUT, "%s: layers.%zu takes %zu numbers but layers.%zu gives %zu",
                 f->path, i, w->shape[1], i - 1, w[-2].shape[0]);
        }
    }
    return depth;
}

static void fill(network *net, const tensor_file *f, size_t depth) {
    for (size_t i = 0; i < depth; i++) {
        const tensor *w = &f->tensors[2 * i], *b = w + 1;
        layer *l = add_layer(net, w->shape[1], w->shape[0]);
        const char *from = f->data + w->begin;
        for (size_t o = 0; o < l->outputs; o++) {
            for (size_t k = 0; k < l->inputs; k++, from += sizeof(float)) {
                memcpy(&l->weights.values[weight_at(l, o, k)], from, sizeof(float));
            }
        }
        memcpy(l->bias.values, f->data + b->begin, l->outputs * sizeof(float));
    }
}

void read_safetensors_model(model *m, file_bytes file, const char *path) {
    uint64_t length = 0;
    for (int i = 8; i-- > 0;) length = length << 8 | (unsigned char)file.bytes[i];
    if (length > file.size - 8 || length > HEADER_LIMIT) {
        fail(EXIT_BAD_INPUT,
             "%s: a safetensors header of %llu bytes, but the file has %zu and the limit "
             "is %d; send the model again",
             path, (unsigned long long)length, file.size, HEADER_LIMIT);
    }
    size_t prefix = 8 + (size_t)length;
    tensor_file *f = allocate(1, sizeof *f, "the model");
    f->path = path;
    f->data = file.bytes + prefix;
    f->size = file.size - prefix;
    json j = json_open(file.bytes + 8, (size_t)length, path);
    read_header(f, &j);
    size_t depth = check_layers(f);
    check_bytes(f, depth);
    fill(&m->net, f, depth);
    m->form = SAFETENSORS;
}

/* Writes the header without padding into `out`, or only measures it where `out` is NULL. */
static size_t header(FILE *out, const network *net) {
    char text[256];
    uint64_t at = 0;
    size_t size = 0;
    for (size_t i = 0; i < net->depth; i++) {
        const layer *l = &net->layers[i];
        uint64_t middle = at + (uint64_t)l->outputs * l->inputs * sizeof(float);
        uint64_t end = middle + l->outputs * sizeof(float);
        size += (size_t)snprintf(
            text, sizeof text,
            "%s\"layers.%zu.weight\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[%llu,"
            "%llu]},"
            "\"layers.%zu.bias\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%llu,%llu]}%"
            "s",
            i == 0 ? "{\"__metadata__\":{\"architecture\":\"mlp\"}," : ",", i, l->outputs,
            l->inputs, (unsigned long long)at, (unsigned long long)middle, i, l->outputs,
            (unsigned long long)middle, (unsigned long long)end, i + 1 == net->depth ? "}" : "");
        if (out != NULL) fputs(text, out);
        at = end;
    }
    return size;
}

size_t safetensors_size(const model *m) {
    size_t size = 8 + (header(NULL, &m->net) + 7) / 8 * 8;
    for (size_t i = 0; i < m->net.depth; i++) {
        const layer *l = &m->net.layers[i];
        size += (l->inputs + 1) * l->outputs * sizeof(float);
    }
    return size;
}

void write_safetensors(FILE *out, const model *m) {
    size_t length = header(NULL, &m->net), rounded = (length + 7) / 8 * 8;
    for (int i = 0; i < 8; i++) fputc((int)((uint64_t)rounded >> (8 * i) & 0xFF), out);
    header(out, &m->net);
    for (; length < rounded; length++) fputc(' ', out);
    for (size_t i = 0; i < m->net.depth; i++) {
        const layer *l = &m->net.layers[i];
        float *row = allocate(l->inputs, sizeof *row, "a row of the update");
        for (size_t o = 0; o < l->outputs; o++) {
            for (size_t k = 0; k < l->inputs; k++) row[k] = l->weights.values[weight_at(l, o, k)];
            fwrite(row, sizeof *row, l->inputs, out);
        }
        fwrite(l->bias.values, sizeof(float), l->outputs, out);
    }
}
