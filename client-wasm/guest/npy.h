/* One array of a .npy file (NumPy format versions 1 to 3), left as it is in memory. */
#ifndef ROOST_NPY_H
#define ROOST_NPY_H

#include "common.h"

typedef struct {
    const char *path;
    char kind; /* 'f' float, 'i' signed, 'u' unsigned or bool */
    size_t item_size; /* bytes per item */
    size_t rows; /* first dimension */
    size_t columns; /* product of the other dimensions; 1 where there are none */
    const unsigned char *data; /* rows * columns items, little endian, row after row */
} npy;

/* Reads `path`, refusing what is not a little-endian numeric array in C order. */
npy npy_read(const char *path, const char *cure);

/* Item `index` of an array of kind 'i' or 'u' with items of at most 8 bytes.
 * Unsigned values beyond INT64_MAX come back as INT64_MAX. */
int64_t npy_integer(const npy *array, size_t index);

/* Item `index` of any array as float64. */
double npy_real(const npy *array, size_t index);

#endif
