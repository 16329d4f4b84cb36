/* The guest's only randomness: shuffling, from a seed, specified in the folder's README. */
#ifndef ROOST_RANDOM_H
#define ROOST_RANDOM_H

#include "common.h"

/* FNV-1a, 64 bit, of "<round_id>:<proplet_id>". */
uint64_t derived_seed(const char *round_id, const char *proplet_id);

/* SplitMix64 (Steele, Lea, Flood 2014): advances `state`, returns 64 bits. */
uint64_t next_random(uint64_t *state);

/* Fisher-Yates, from the last element down. */
void shuffle(uint32_t *items, size_t count, uint64_t *state);

#endif
