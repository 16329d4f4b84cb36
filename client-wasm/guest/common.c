#include "common.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

_Noreturn void fail(enum exit_code code, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Names and values in messages come from outside: keep the message one harmless line. */
    for (char *c = line; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') *c = '?';
    }
    fflush(stdout);
    fprintf(stderr, "error: %s\n", line);
    exit(code);
}

size_t checked_mul(size_t a, size_t b, const char *what) {
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        fail(EXIT_RESOURCES, "%s is too large for this device's 32-bit guests", what);
    }
    return product;
}

void *allocate(size_t count, size_t size, const char *what) {
    const size_t alignment = 64;
    size_t bytes = checked_mul(count, size, what);
    size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void *memory = rounded < bytes ? NULL : aligned_alloc(alignment, rounded ? rounded : alignment);
    if (memory == NULL) {
        fail(EXIT_RESOURCES, "out of memory: %s needs %zu bytes; raise the task's memory limit",
             what, bytes);
    }
    memset(memory, 0, rounded);
    return memory;
}

void *reallocate(void *old, size_t count, size_t size, const char *what) {
    size_t bytes = checked_mul(count, size, what);
    void *memory = realloc(old, bytes ? bytes : 1);
    if (memory == NULL) {
        fail(EXIT_RESOURCES, "out of memory: %s needs %zu bytes; raise the task's memory limit",
             what, bytes);
    }
    return memory;
}

bool is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

file_bytes read_file(const char *path, const char *cure) {
    struct stat info;
    if (stat(path, &info) != 0) {
        fail(EXIT_BAD_INPUT, "cannot open %s: %s; %s", path, strerror(errno), cure);
    }
    if (!S_ISREG(info.st_mode)) fail(EXIT_BAD_INPUT, "%s is not a file; %s", path, cure);
    if ((uint64_t)info.st_size >= SIZE_MAX) fail(EXIT_RESOURCES, "%s is too large", path);
    size_t size = (size_t)info.st_size;
    char *bytes = reallocate(NULL, size + 1, 1, path);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail(EXIT_BAD_INPUT, "cannot open %s: %s; %s", path, strerror(errno), cure);
    }
    if (fread(bytes, 1, size, file) != size) {
        fail(EXIT_BAD_INPUT, "cannot read %s: it ended before its %zu bytes", path, size);
    }
    fclose(file);
    bytes[size] = '\0';
    return (file_bytes){bytes, size};
}
