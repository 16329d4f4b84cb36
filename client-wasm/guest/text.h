/* Numbers and strings as text. */
#ifndef ROOST_TEXT_H
#define ROOST_TEXT_H

#include "common.h"
#include <stdio.h>

enum { NUMBER_TEXT = 32 };

/* The shortest decimal that a JSON reader turns back into this float32. `value` is finite. */
void float_text(float value, char out[NUMBER_TEXT]);

/* Likewise for float64. */
void double_text(double value, char out[NUMBER_TEXT]);

/* A quoted, escaped JSON string. `text` is valid UTF-8. */
void put_json_string(FILE *out, const char *text);

bool is_utf8(const char *text);

#endif
