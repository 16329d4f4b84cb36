#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

_Noreturn void json_fail(const json *j, const char *format, ...) {
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    fail(EXIT_BAD_INPUT, "%s: %s (at byte %zu)", j->name, what, (size_t)(j->at - j->start));
}

json json_open(const char *text, size_t size, const char *name) {
    return (json){text, text, text + size, name};
}

char json_peek(json *j) {
    while (j->at < j->end &&
           (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r')) {
        j->at++;
    }
    return j->at < j->end ? *j->at : '\0';
}

void json_expect(json *j, char sign) {
    char found = json_peek(j);
    if (found == sign) {
        j->at++;
        return;
    }
    if (j->at == j->end) json_fail(j, "ends where '%c' should follow: the JSON is cut off", sign);
    json_fail(j, "invalid JSON, '%c' where '%c' should be", found, sign);
}

/* Before a member or an element: takes the ',' where one is due; false at the closing sign. */
static bool another(json *j, bool *first, char closing) {
    if (json_peek(j) == closing) {
        j->at++;
        return false;
    }
    if (!*first) {
        json_expect(j, ',');
        if (json_peek(j) == closing) json_fail(j, "invalid JSON, a ',' before '%c'", closing);
    }
    *first = false;
    return true;
}

bool json_member(json *j, bool *first, char *key, size_t capacity) {
    if (!another(j, first, '}')) return false;
    json_string(j, key, capacity);
    json_expect(j, ':');
    return true;
}

bool json_element(json *j, bool *first) { return another(j, first, ']'); }

static unsigned hex4(json *j) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char c = j->at < j->end ? *j->at : '\0';
        unsigned digit;
        if (c >= '0' && c <= '9') digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f') digit = (unsigned)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F') digit = (unsigned)(c - 'A') + 10;
        else json_fail(j, "invalid JSON, \\u needs four hexadecimal digits");
        value = value * 16 + digit;
        j->at++;
    }
    return value;
}

/* One code point after "\u", both halves of a surrogate pair, as UTF-8; returns its length. */
static size_t unicode_escape(json *j, char utf8[4]) {
    unsigned code = hex4(j);
    if (code >= 0xD800 && code < 0xDC00) {
        if (j->end - j->at < 2 || j->at[0] != '\\' || j->at[1] != 'u') {
            json_fail(j, "invalid JSON, half a surrogate pair");
        }
        j->at += 2;
        unsigned low = hex4(j);
        if (low < 0xDC00 || low > 0xDFFF) json_fail(j, "invalid JSON, half a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
        json_fail(j, "invalid JSON, half a surrogate pair");
    }
    if (code == 0) json_fail(j, "a string holds \\u0000, which no name here may");
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = length; i-- > 1; code >>= 6) utf8[i] = (char)(0x80 | (code & 0x3F));
    utf8[0] = (char)(lead[length] | code);
    return length;
}

/* One escape after '\'; returns the length of what it means in UTF-8. */
static size_t escape(json *j, char utf8[4]) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = j->at < j->end ? *j->at++ : '\0';
    if (c == 'u') return unicode_escape(j, utf8);
    const char *known = c == '\0' ? NULL : strchr(from, c);
    if (known == NULL) json_fail(j, "invalid JSON, an unknown escape in a string");
    utf8[0] = to[known - from];
    return 1;
}

void json_string(json *j, char *out, size_t capacity) {
    size_t used = 0;
    bool cut = false;
    json_expect(j, '"');
    for (;;) {
        if (j->at == j->end) json_fail(j, "a string has no end: the JSON is cut off");
        char utf8[4] = {*j->at++};
        size_t length = 1;
        if (utf8[0] == '"') break;
        if ((unsigned char)utf8[0] < 0x20) json_fail(j, "a control character inside a string");
        if (utf8[0] == '\\') length = escape(j, utf8);
        cut = cut || used + length >= capacity;
        if (cut) continue;
        memcpy(out + used, utf8, length);
        used += length;
    }
    if (capacity > 0) out[used] = '\0';
}

static const char *digits(json *j, const char *c) {
    if (*c < '0' || *c > '9') json_fail(j, "a number was expected");
    while (c < j->end && *c >= '0' && *c <= '9') c++;
    return c;
}

/* The end of the number at j->at, checked against the grammar. */
static const char *number_end(json *j) {
    json_peek(j);
    const char *c = j->at;
    if (c < j->end && *c == '-') c++;
    if (c == j->end) json_fail(j, "a number was expected: the JSON is cut off");
    const char *integer = c;
    c = digits(j, c);
    if (*integer == '0' && c - integer > 1) json_fail(j, "a number may not begin with 0");
    if (c < j->end && *c == '.') c = digits(j, c + 1);
    if (c < j->end && (*c == 'e' || *c == 'E')) {
        c++;
        if (c < j->end && (*c == '+' || *c == '-')) c++;
        c = digits(j, c);
    }
    return c;
}

/* Up to 15 digits scaled by at most 10^22 are exact in float64, so one operation rounds
 * correctly (Clinger 1990); anything else goes through strtod. False where it must. */
static bool short_number(const char *c, const char *end, double *value) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    bool negative = *c == '-';
    uint64_t mantissa = 0;
    int seen = 0, exponent = 0;
    bool fraction = false;
    for (c += negative; c < end && *c != 'e' && *c != 'E'; c++) {
        if (*c == '.') {
            fraction = true;
            continue;
        }
        mantissa = mantissa * 10 + (uint64_t)(*c - '0');
        exponent -= fraction;
        if (++seen > 15) return false;
    }
    if (c < end) {
        if (end - c > 5) return false;
        exponent += atoi(c + 1);
    }
    if (exponent < -22 || exponent > 22) return false;
    double exact = (double)mantissa;
    exact = exponent < 0 ? exact / powers[-exponent] : exact * powers[exponent];
    *value = negative ? -exact : exact;
    return true;
}

double json_number(json *j) {
    const char *end = number_end(j);
    double value;
    if (!short_number(j->at, end, &value)) value = strtod(j->at, NULL);
    j->at = end;
    return value;
}

uint64_t json_whole(json *j) {
    const char *end = number_end(j);
    uint64_t value = 0;
    for (const char *c = j->at; c < end; c++) {
        if (*c < '0' || *c > '9') {
            json_fail(j, "must be a whole number written with digits only, not %.*s",
                      (int)(end - j->at > 40 ? 40 : end - j->at), j->at);
        }
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value)) {
            json_fail(j, "is beyond 18446744073709551615");
        }
    }
    j->at = end;
    return value;
}

static void skip_scalar(json *j) {
    static const char *const words[] = {"true", "false", "null"};
    char c = json_peek(j);
    if (c == '"') {
        json_string(j, NULL, 0);
        return;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(j->end - j->at) >= length && memcmp(j->at, words[i], length) == 0) {
            j->at += length;
            return;
        }
    }
    if (j->at == j->end) json_fail(j, "a value is missing: the JSON is cut off");
    j->at = number_end(j);
}

void json_skip(json *j) {
    bool is_object[MAX_DEPTH], first[MAX_DEPTH];
    size_t depth = 0;
    do {
        char c = json_peek(j);
        if (c == '{' || c == '[') {
            if (depth == MAX_DEPTH) json_fail(j, "nested deeper than %d", MAX_DEPTH);
            is_object[depth] = c == '{';
            first[depth++] = true;
            j->at++;
        } else {
            skip_scalar(j);
        }
        while (depth > 0) {
            bool *start = &first[depth - 1];
            if (is_object[depth - 1] ? json_member(j, start, NULL, 0) : json_element(j, start))
                break;
            depth--;
        }
    } while (depth > 0);
}

void json_finish(json *j) {
    if (json_peek(j) != '\0' || j->at != j->end) json_fail(j, "something follows the JSON value");
}
