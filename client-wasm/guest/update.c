#include "update.h"

#include <errno.h>
#include <string.h>

#include "text.h"

static const char update_path[] = OUT_DIR "/update";
static const char temporary_path[] = OUT_DIR "/update.tmp";
static const char metrics_path[] = OUT_DIR "/metrics.json";

static _Noreturn void cannot_write(const char *path) {
    fail(EXIT_RESOURCES, "cannot write %s: %s; the task needs a writable /out with room for it",
         path, strerror(errno));
}

/* MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), the few types needed. */

static void put_big_endian(FILE *out, int marker, uint64_t value, int bytes) {
    fputc(marker, out);
    for (int i = bytes; i-- > 0;) fputc((int)(value >> (8 * i) & 0xFF), out);
}

static void put_text(FILE *out, const char *text) {
    size_t length = strlen(text);
    if (length < 32) fputc(0xA0 | (int)length, out);
    else put_big_endian(out, 0xDA, length, 2);
    fwrite(text, 1, length, out);
}

static void put_real(FILE *out, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_big_endian(out, 0xCB, bits, 8);
}

static void write_msgpack(FILE *out, const update_header *u, const model *m) {
    fputc(0x85, out); /* a map of 5 */
    put_text(out, "round_id");
    put_text(out, u->round_id);
    put_text(out, "base_model_uri");
    put_text(out, u->base_model_uri);
    put_text(out, "num_samples");
    put_big_endian(out, 0xCE, u->result.num_samples, 4);
    put_text(out, "metrics");
    fputc(0x82, out);
    put_text(out, "loss");
    put_real(out, u->result.loss);
    put_text(out, "accuracy");
    put_real(out, u->result.accuracy);
    put_text(out, "update");
    put_big_endian(out, 0xC6, safetensors_size(m), 4);
    write_safetensors(out, m);
}

static void write_json(FILE *out, const update_header *u, const model *m) {
    fputs("{\"round_id\":", out);
    put_json_string(out, u->round_id);
    fputs(",\"base_model_uri\":", out);
    put_json_string(out, u->base_model_uri);
    fprintf(out, ",\"num_samples\":%zu,\"metrics\":{", u->result.num_samples);
    put_metrics(out, u->result);
    fputs("},\"update\":", out);
    write_json_parameters(out, m);
    fputs("}\n", out);
}

static void close_written(FILE *file, const char *path) {
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) cannot_write(path);
}

static void write_to(const char *path, const update_header *u, const model *m) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) cannot_write(path);
    if (m->form == SAFETENSORS) write_msgpack(file, u, m);
    else write_json(file, u, m);
    close_written(file, path);
}

void write_update(const update_header *u, const model *m) {
    write_to(temporary_path, u, m);
    if (rename(temporary_path, update_path) == 0) return;
    /* Some WASI hosts (browsers' shims) cannot rename: there the file is written in place. */
    remove(temporary_path);
    write_to(update_path, u, m);
}

static void put_evaluation(FILE *out, metrics result) {
    fputs("{\"event\":\"evaluated\",", out);
    put_metrics(out, result);
    fprintf(out, ",\"num_samples\":%zu}\n", result.num_samples);
}

void write_evaluation(metrics result) {
    FILE *file = fopen(metrics_path, "wb");
    if (file == NULL) cannot_write(metrics_path);
    put_evaluation(file, result);
    close_written(file, metrics_path);
    put_evaluation(stdout, result);
}
