/* What every part of the guest shares: how it fails, allocates and reads files.
 *
 * The guest is a short-lived command: it never frees, and its only error path is fail(), which
 * prints one line and exits. Nothing here returns an error code that a caller could forget. */
#ifndef ROOST_COMMON_H
#define ROOST_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Prefix of the paths /in, /data and /out. Empty in Wasm; native builds (benchmarks) set it. */
#ifndef GUEST_ROOT
#define GUEST_ROOT ""
#endif

#define IN_DIR GUEST_ROOT "/in"
#define DATA_DIR GUEST_ROOT "/data"
#define OUT_DIR GUEST_ROOT "/out"

enum exit_code {
    EXIT_BAD_INPUT =
        2, /* model, data, settings or environment are wrong: trying again is useless */
    EXIT_DIVERGED = 3, /* training left the finite numbers */
    EXIT_RESOURCES = 4, /* out of memory, or /out cannot be written */
};

/* Prints "error: <message>" as one line of printable ASCII on stderr and exits with `code`. */
_Noreturn void fail(enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* a * b, or fail(EXIT_RESOURCES) naming `what` where the product does not fit a size_t. */
size_t checked_mul(size_t a, size_t b, const char *what);

/* `count` zeroed objects of `size` bytes, aligned to 64 bytes; fails, naming `what`. */
void *allocate(size_t count, size_t size, const char *what);

/* A grown copy of `old` (which may be NULL); fails, naming `what`. */
void *reallocate(void *old, size_t count, size_t size, const char *what);

typedef struct {
    const char *bytes; /* `size` bytes, then one NUL that does not count */
    size_t size;
} file_bytes;

/* The whole of a regular file. `cure` ends the message where it cannot be opened. */
file_bytes read_file(const char *path, const char *cure);

bool is_directory(const char *path);

#endif
