#include "npy.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *at, *end;
    const char *path;
} cursor;

typedef struct {
    char descr[8];
    bool fortran;
    size_t dims, rows, columns;
} header;

static _Noreturn void malformed(const cursor *c, const char *what) {
    fail(EXIT_BAD_INPUT, "%s: %s in its .npy header; write it again with numpy.save", c->path,
         what);
}

static char look(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n')) c->at++;
    return c->at < c->end ? *c->at : '\0';
}

static bool take(cursor *c, char sign) {
    if (look(c) != sign) return false;
    c->at++;
    return true;
}

static void need(cursor *c, char sign) {
    if (!take(c, sign)) malformed(c, "broken syntax");
}

static void quoted(cursor *c, char *out, size_t capacity) {
    char quote = look(c);
    if (quote != '\'' && quote != '"') malformed(c, "not a plain number type");
    const char *start = ++c->at;
    while (c->at < c->end && *c->at != quote) c->at++;
    size_t length = (size_t)(c->at - start);
    if (c->at == c->end || length >= capacity) malformed(c, "an unknown name");
    memcpy(out, start, length);
    out[length] = '\0';
    c->at++;
}

static bool boolean(cursor *c) {
    look(c);
    const char *word = c->end - c->at >= 4 && memcmp(c->at, "True", 4) == 0 ? "True" : "False";
    size_t length = strlen(word);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0) {
        malformed(c, "fortran_order is neither True nor False");
    }
    c->at += length;
    return length == 4;
}

static size_t dimension(cursor *c) {
    size_t value = 0;
    char digit = look(c);
    if (digit < '0' || digit > '9') malformed(c, "a shape that is not whole numbers");
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (__builtin_mul_overflow(value, (size_t)10, &value) ||
            __builtin_add_overflow(value, (size_t)(*c->at - '0'), &value)) {
            malformed(c, "a shape too large for this device's 32-bit guests");
        }
    }
    return value;
}

static void shape(cursor *c, header *h) {
    need(c, '(');
    h->columns = 1;
    while (!take(c, ')')) {
        if (h->dims > 0) need(c, ',');
        if (take(c, ')')) break;
        size_t value = dimension(c);
        if (h->dims == 0) h->rows = value;
        else if (__builtin_mul_overflow(h->columns, value, &h->columns)) {
            malformed(c, "a shape too large for this device's 32-bit guests");
        }
        h->dims++;
    }
}

static const char *const keys[] = {"descr", "fortran_order", "shape"};
enum { DESCR, FORTRAN_ORDER, SHAPE, KEYS };

/* The key at the cursor, with its ':'; fails where it is unknown or was seen before. */
static int next_key(cursor *c, bool seen[KEYS]) {
    char name[16];
    quoted(c, name, sizeof name);
    need(c, ':');
    for (int key = 0; key < KEYS; key++) {
        if (strcmp(name, keys[key]) != 0) continue;
        if (seen[key]) malformed(c, "a key twice");
        seen[key] = true;
        return key;
    }
    malformed(c, "an unknown key");
}

static header parse_header(cursor *c) {
    header h = {0};
    bool seen[KEYS] = {false};
    need(c, '{');
    while (!take(c, '}')) {
        switch (next_key(c, seen)) {
        case DESCR: quoted(c, h.descr, sizeof h.descr); break;
        case FORTRAN_ORDER: h.fortran = boolean(c); break;
        case SHAPE: shape(c, &h); break;
        }
        if (look(c) != '}') need(c, ',');
    }
    for (int key = 0; key < KEYS; key++) {
        if (!seen[key]) malformed(c, "descr, fortran_order or shape missing");
    }
    return h;
}

/* Where the header's text lies in the file: magic, version, length, text (numpy.lib.format). */
static cursor locate_header(const char *path, file_bytes file) {
    const unsigned char *b = (const unsigned char *)file.bytes;
    if (file.size < 12 || memcmp(b, "\x93NUMPY", 6) != 0) {
        fail(EXIT_BAD_INPUT, "%s is not a .npy file; write it with numpy.save", path);
    }
    if (b[6] < 1 || b[6] > 3) {
        fail(EXIT_BAD_INPUT, "%s: .npy version %d is not known; versions 1 to 3 are", path, b[6]);
    }
    size_t prefix = b[6] == 1 ? 10 : 12;
    uint64_t length = (uint64_t)b[8] | (uint64_t)b[9] << 8;
    if (prefix == 12) length |= (uint64_t)b[10] << 16 | (uint64_t)b[11] << 24;
    if (length > file.size - prefix) {
        fail(EXIT_BAD_INPUT, "%s is cut off inside its header; copy it again", path);
    }
    return (cursor){file.bytes + prefix, file.bytes + prefix + length, path};
}

/* Fills in kind and item_size from a descr such as "<f4". */
static void number_type(npy *array, const char *descr) {
    static const char known[] = "f4 f8 u1 u2 u4 u8 i1 i2 i4 i8 b1 ";
    char key[] = {descr[0] != '\0' ? descr[1] : '\0', '\0', ' ', '\0'};
    if (key[0] != '\0') key[1] = descr[2];
    bool ordered = descr[0] == '<' || descr[0] == '|';
    bool supported = key[1] != '\0' && descr[3] == '\0' && strstr(known, key) != NULL;
    if (descr[0] == '>' && supported) {
        fail(EXIT_BAD_INPUT, "%s is big-endian (%s); save it with .astype('<%c%c')", array->path,
             descr, key[0], key[1]);
    }
    if (!ordered || !supported) {
        fail(EXIT_BAD_INPUT,
             "%s holds items of type '%s'; known are f4, f8, u1 to u8, i1 to i8 "
             "and b1: convert with .astype",
             array->path, descr);
    }
    array->kind = key[0] == 'b' ? 'u' : key[0];
    array->item_size = (size_t)(key[1] - '0');
}

npy npy_read(const char *path, const char *cure) {
    file_bytes file = read_file(path, cure);
    cursor c = locate_header(path, file);
    header h = parse_header(&c);
    if (look(&c) != '\0' || c.at != c.end) malformed(&c, "something follows the dictionary");
    npy array = {
        .path = path, .rows = h.rows, .columns = h.columns, .data = (const unsigned char *)c.end};
    number_type(&array, h.descr);
    if (h.dims == 0)
        fail(EXIT_BAD_INPUT, "%s is a single number; one row per sample is needed", path);
    if (h.fortran && h.dims > 1) {
        fail(EXIT_BAD_INPUT, "%s is in Fortran order; save numpy.ascontiguousarray of it", path);
    }
    size_t present = file.size - (size_t)(c.end - file.bytes);
    size_t items = checked_mul(h.rows, h.columns, path);
    if (checked_mul(items, array.item_size, path) != present) {
        fail(EXIT_BAD_INPUT,
             "%s: its shape needs %zu items of %zu bytes but %zu bytes follow the "
             "header; copy the file again",
             path, items, array.item_size, present);
    }
    return array;
}

int64_t npy_integer(const npy *array, size_t index) {
    const unsigned char *item = array->data + index * array->item_size;
    uint64_t bits = 0;
    for (size_t i = array->item_size; i-- > 0;) bits = bits << 8 | item[i];
    unsigned unused = (unsigned)(64 - 8 * array->item_size);
    if (array->kind == 'i') return (int64_t)(bits << unused) >> unused;
    return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
}

double npy_real(const npy *array, size_t index) {
    const unsigned char *item = array->data + index * array->item_size;
    if (array->kind != 'f') return (double)npy_integer(array, index);
    if (array->item_size == 8) {
        double value;
        memcpy(&value, item, sizeof value);
        return value;
    }
    float value;
    memcpy(&value, item, sizeof value);
    return (double)value;
}
