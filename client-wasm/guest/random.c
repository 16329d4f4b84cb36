#include "random.h"

static uint64_t fnv1a(uint64_t hash, const char *text) {
    for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001B3ull;
    return hash;
}

uint64_t derived_seed(const char *round_id, const char *proplet_id) {
    return fnv1a(fnv1a(fnv1a(0xCBF29CE484222325ull, round_id), ":"), proplet_id);
}

uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

void shuffle(uint32_t *items, size_t count, uint64_t *state) {
    for (size_t i = count; i > 1; i--) {
        /* The high 32 bits, scaled to 0 .. i-1: no division; a bias below count / 2^32. */
        size_t j = (size_t)(((next_random(state) >> 32) * (uint64_t)i) >> 32);
        uint32_t kept = items[i - 1];
        items[i - 1] = items[j];
        items[j] = kept;
    }
}
