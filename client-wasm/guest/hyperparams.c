#include "hyperparams.h"

#include <math.h>
#include <string.h>

#include "json.h"

enum key {
    EPOCHS,
    LR,
    BATCH_SIZE,
    MOMENTUM,
    WEIGHT_DECAY,
    PROXIMAL_MU,
    SEED,
    DATASET,
    SCALE,
    KEYS
};

static const char *const names[KEYS] = {"epochs",   "lr",           "batch_size",
                                        "momentum", "weight_decay", "proximal_mu",
                                        "seed",     "dataset",      "scale"};

static enum key find_key(const json *j, const char *name) {
    for (int key = 0; key < KEYS; key++) {
        if (strcmp(name, names[key]) == 0) return (enum key)key;
    }
    json_fail(j,
              "unknown key \"%s\"; known are epochs, lr, batch_size, momentum, weight_decay, "
              "proximal_mu, seed, dataset, scale",
              name);
}

static void need_number(json *j, const char *name) {
    char c = json_peek(j);
    if (c != '-' && (c < '0' || c > '9')) json_fail(j, "\"%s\" must be a number", name);
}

static uint64_t whole(json *j, const char *name, uint64_t low, uint64_t high) {
    need_number(j, name);
    const char *start = j->at;
    for (const char *c = start; c < j->end && strchr(",} \t\r\n", *c) == NULL; c++) {
        if (*c < '0' || *c > '9') {
            json_fail(j,
                      "\"%s\" must be a whole number from %llu to %llu, written with digits only",
                      name, (unsigned long long)low, (unsigned long long)high);
        }
    }
    uint64_t value = json_whole(j);
    if (value < low || value > high) {
        json_fail(j, "\"%s\" must be a whole number from %llu to %llu, not %llu", name,
                  (unsigned long long)low, (unsigned long long)high, (unsigned long long)value);
    }
    return value;
}

typedef struct {
    double low, high;
    bool low_allowed, high_allowed;
    const char *range;
} bounds;

static const bounds positive = {0, 1000, false, true, "above 0 and at most 1000"};
static const bounds penalty = {0, 1000, true, true, "from 0 to 1000"};
static const bounds fraction = {0, 1, true, false, "at least 0 and below 1"};
static const bounds scaling = {0, 1e12, false, true, "above 0 and at most 1e12"};

static double real(json *j, const char *name, const bounds *b) {
    need_number(j, name);
    double value = json_number(j);
    bool inside = (b->low_allowed ? value >= b->low : value > b->low) &&
                  (b->high_allowed ? value <= b->high : value < b->high);
    if (!inside) json_fail(j, "\"%s\" must be %s, not %g", name, b->range, value);
    return value;
}

/* As `real`, for what training computes with in float32: rounding may not reach a bound. */
static float real32(json *j, const char *name, const bounds *b) {
    float value = (float)real(j, name, b);
    if ((value == 0 && !b->low_allowed) || (value == (float)b->high && !b->high_allowed)) {
        json_fail(j, "\"%s\" must be %s, also as a float32", name, b->range);
    }
    return value;
}

static bool is_alphanumeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static void dataset_name(json *j, char out[NAME_CAPACITY]) {
    if (json_peek(j) != '"') json_fail(j, "\"dataset\" must be a string");
    char name[NAME_CAPACITY + 8];
    json_string(j, name, sizeof name);
    size_t length = strlen(name);
    bool valid = length > 0 && length < NAME_CAPACITY && is_alphanumeric(name[0]);
    for (size_t i = 0; i < length; i++) {
        valid = valid && (is_alphanumeric(name[i]) || strchr("._-", name[i]) != NULL);
    }
    if (!valid) {
        json_fail(j, "\"dataset\" must name a folder below /data with 1 to 64 letters, digits, "
                     "'.', '_' or '-', a letter or digit first");
    }
    memcpy(out, name, length + 1);
}

static void read_value(json *j, enum key key, hyperparams *h) {
    const char *name = names[key];
    switch (key) {
    case EPOCHS: h->epochs = (size_t)whole(j, name, 1, 100000); break;
    case LR: h->lr = real32(j, name, &positive); break;
    case BATCH_SIZE: h->batch_size = (size_t)whole(j, name, 1, 1u << 20); break;
    case MOMENTUM: h->momentum = real32(j, name, &fraction); break;
    case WEIGHT_DECAY: h->weight_decay = real32(j, name, &penalty); break;
    case PROXIMAL_MU: h->proximal_mu = real32(j, name, &penalty); break;
    case SEED:
        h->seed = whole(j, name, 0, UINT64_MAX);
        h->has_seed = true;
        break;
    case DATASET: dataset_name(j, h->dataset); break;
    case SCALE: h->scale = real(j, name, &scaling); break;
    case KEYS: break;
    }
}

hyperparams parse_hyperparams(const char *text) {
    hyperparams h = {.epochs = 1, .lr = 0.1f, .batch_size = 32, .scale = 1, .dataset = "train"};
    if (text == NULL) return h;
    json j = json_open(text, strlen(text), "HYPERPARAMS");
    if (json_peek(&j) == '\0') return h;
    if (json_peek(&j) != '{') {
        json_fail(&j, "must be a JSON object such as {\"epochs\":1,\"lr\":0.01,\"batch_size\":16}");
    }
    json_expect(&j, '{');
    bool first = true, seen[KEYS] = {false};
    char name[64];
    while (json_member(&j, &first, name, sizeof name)) {
        enum key key = find_key(&j, name);
        if (seen[key]) json_fail(&j, "\"%s\" is given twice; keep one", name);
        seen[key] = true;
        read_value(&j, key, &h);
    }
    json_finish(&j);
    return h;
}
