/* /in/model, in the form it came in: JSON regression, or a safetensors MLP. */
#ifndef ROOST_MODEL_H
#define ROOST_MODEL_H

#include "network.h"
#include <stdio.h>

enum model_form {
    JSON_VECTOR, /* {"w": [features], "b": number}: binary logistic regression */
    JSON_MATRIX, /* {"w": [classes][features], "b": [classes]}: softmax regression */
    SAFETENSORS, /* layers.{i}.weight (outputs, inputs), layers.{i}.bias (outputs), F32 */
};

typedef struct {
    enum model_form form;
    network net;
} model;

model *read_model(const char *path);

/* Parameters as JSON: {"w": ..., "b": ...} in the model's own form. */
void write_json_parameters(FILE *out, const model *m);

/* The size in bytes of what write_safetensors() writes. */
size_t safetensors_size(const model *m);

/* Parameters as a safetensors file, tensors named and shaped as they came. */
void write_safetensors(FILE *out, const model *m);

/* For read_model() alone. */
void read_json_model(model *m, file_bytes file, const char *path);
void read_safetensors_model(model *m, file_bytes file, const char *path);

#endif
