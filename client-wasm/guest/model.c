#include "model.h"

static bool is_json(file_bytes file) {
    size_t start = 0;
    while (start < file.size && (file.bytes[start] == ' ' || file.bytes[start] == '\t' ||
                                 file.bytes[start] == '\n' || file.bytes[start] == '\r')) {
        start++;
    }
    return start < file.size && file.bytes[start] == '{';
}

/* A safetensors file begins with its header's length, 8 bytes of which the last are 0 because
 * headers are short, then '{'. The first byte may well be '{' (a header of 123 bytes), so it says
 * nothing; but JSON text holds no NUL byte, so no document passes both tests. */
static bool is_safetensors(file_bytes file) {
    return file.size >= 10 && file.bytes[7] == '\0' && file.bytes[8] == '{';
}

model *read_model(const char *path) {
    model *m = allocate(1, sizeof *m, "the model");
    file_bytes file = read_file(path, "the task needs an input named model");
    if (file.size == 0) fail(EXIT_BAD_INPUT, "%s is empty; send the model again", path);
    if (is_safetensors(file)) read_safetensors_model(m, file, path);
    else if (is_json(file)) read_json_model(m, file, path);
    else {
        fail(EXIT_BAD_INPUT,
             "%s is neither a JSON model ({\"w\":...,\"b\":...}) nor a safetensors "
             "file; publish the model in one of these forms",
             path);
    }
    if (!all_finite(&m->net)) {
        fail(EXIT_BAD_INPUT,
             "%s holds a parameter that is not finite in float32; publish a sound "
             "model version",
             path);
    }
    return m;
}
