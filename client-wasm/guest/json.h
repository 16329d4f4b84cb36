/* A pull parser for JSON (RFC 8259): the caller asks for what it expects, one value at a time.
 *
 * Nothing is built in memory and nothing recurses, so nesting costs no stack. Every mistake ends
 * in fail() with the document's name and the byte where it was seen. */
#ifndef ROOST_JSON_H
#define ROOST_JSON_H

#include "common.h"

typedef struct {
    const char *start, *at, *end; /* the document; *end must be readable (a NUL will do) */
    const char *name; /* for messages, such as "HYPERPARAMS" */
} json;

json json_open(const char *text, size_t size, const char *name);

/* The first character of the next value or sign, blanks skipped; '\0' at the end. */
char json_peek(json *j);

/* Takes exactly this sign, or fails. */
void json_expect(json *j, char sign);

/* Inside an object whose '{' is taken: reads the next key and its ':'; false at the '}'.
 * `first` starts true. A key longer than `capacity` - 1 bytes is cut. */
bool json_member(json *j, bool *first, char *key, size_t capacity);

/* Inside an array whose '[' is taken: true where an element follows; false at the ']'. */
bool json_element(json *j, bool *first);

/* Decodes a string into `out`, cut at `capacity` - 1 bytes, always NUL-terminated. */
void json_string(json *j, char *out, size_t capacity);

/* A number as float64, correctly rounded. May be infinite (1e999): the caller bounds it. */
double json_number(json *j);

/* A whole number written with digits only. */
uint64_t json_whole(json *j);

/* Passes over one value of any kind, nested at most 64 deep. */
void json_skip(json *j);

/* Fails unless only blanks are left. */
void json_finish(json *j);

_Noreturn void json_fail(const json *j, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
