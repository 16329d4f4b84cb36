/* What a participant returns: /out/update, and /out/metrics.json. */
#ifndef ROOST_UPDATE_H
#define ROOST_UPDATE_H

#include "training.h"

typedef struct {
    const char *round_id, *base_model_uri; /* valid UTF-8, at most 1,024 bytes */
    metrics result;
} update_header;

/* JSON for a JSON model; MessagePack, with a safetensors file as `update`, for safetensors. */
void write_update(const update_header *u, const model *m);

/* The line of evaluate mode, on stdout and in /out/metrics.json. */
void write_evaluation(metrics result);

#endif
