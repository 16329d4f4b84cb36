#include "text.h"

#include <stdlib.h>
#include <string.h>

static bool float_survives(float value, int digits, char *out) {
    snprintf(out, NUMBER_TEXT, "%.*g", digits, (double)value);
    /* Through float64 on purpose: that is how readers of JSON get at a float32. */
    return (float)strtod(out, NULL) == value;
}

void float_text(float value, char out[NUMBER_TEXT]) {
    int digits = 7; /* most values need 7 to 9 digits, so begin there */
    while (!float_survives(value, digits, out)) digits++;
    if (digits > 7) return;
    while (digits > 1 && float_survives(value, digits - 1, out)) digits--;
    float_survives(value, digits, out);
}

void double_text(double value, char out[NUMBER_TEXT]) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, NUMBER_TEXT, "%.*g", digits, value);
        if (strtod(out, NULL) == value) return;
    }
}

void put_json_string(FILE *out, const char *text) {
    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') fprintf(out, "\\%c", *c);
        else if (*c < 0x20) fprintf(out, "\\u%04x", *c);
        else fputc(*c, out);
    }
    fputc('"', out);
}

/* Length of the well-formed UTF-8 sequence at `c` (Unicode table 3-7), or 0. */
static size_t sequence(const unsigned char *c) {
    if (c[0] < 0x80) return 1;
    size_t length = c[0] >= 0xF0 ? 4 : c[0] >= 0xE0 ? 3 : 2;
    unsigned low = c[0] == 0xE0 ? 0xA0 : c[0] == 0xF0 ? 0x90 : 0x80;
    unsigned high = c[0] == 0xED ? 0x9F : c[0] == 0xF4 ? 0x8F : 0xBF;
    if (c[0] < 0xC2 || c[0] > 0xF4 || c[1] < low || c[1] > high) return 0;
    for (size_t i = 2; i < length; i++) {
        if ((c[i] & 0xC0) != 0x80) return 0;
    }
    return length;
}

bool is_utf8(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    while (*c != '\0') {
        size_t length = sequence(c);
        if (length == 0) return false;
        c += length;
    }
    return true;
}
