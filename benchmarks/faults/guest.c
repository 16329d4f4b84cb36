/*
 * A guest whose time is known, and whose faults are ordered: it waits for as long as
 * `hyperparams.seconds` says, then answers with the base model unchanged. The proplet that
 * `hyperparams.dies` names traps after half of that time; the one that `hyperparams.hangs` names
 * runs for ever.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *setting(const char *name) {
    const char *found = getenv(name);
    if (found == NULL) {
        fprintf(stderr, "error: %s is not set\n", name);
        exit(2);
    }
    return found;
}

/* Whether hyperparams hold "fault":"<this proplet>". */
static int ordered(const char *fault) {
    char wanted[128];
    snprintf(wanted, sizeof wanted, "\"%s\":\"%s\"", fault, setting("PROPLET_ID"));
    return strstr(setting("HYPERPARAMS"), wanted) != NULL;
}

static void wait_for(double seconds) {
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

static double seconds(void) {
    const char *found = strstr(setting("HYPERPARAMS"), "\"seconds\":");
    return found == NULL ? 1.0 : atof(found + strlen("\"seconds\":"));
}

/* MessagePack: a text of fewer than 256 bytes. */
static void text(FILE *out, const char *value) {
    size_t size = strlen(value);
    fputc(0xd9, out);
    fputc((int)size, out);
    fwrite(value, 1, size, out);
}

static void copy_model(FILE *out) {
    static uint8_t model[8 << 20];
    FILE *in = fopen("/in/model", "rb");
    if (in == NULL) {
        fprintf(stderr, "error: /in/model cannot be read\n");
        exit(2);
    }
    uint32_t size = (uint32_t)fread(model, 1, sizeof model, in);
    fclose(in);
    fputc(0xc6, out);
    for (int shift = 24; shift >= 0; shift -= 8) fputc((int)(size >> shift & 0xff), out);
    fwrite(model, 1, size, out);
}

int main(void) {
    wait_for(seconds() / 2);
    if (ordered("dies")) __builtin_trap();
    for (volatile int spins = 0; ordered("hangs");) spins = !spins;
    wait_for(seconds() / 2);
    FILE *out = fopen("/out/update", "wb");
    if (out == NULL) return 2;
    fputc(0x85, out);
    text(out, "round_id");
    text(out, setting("ROUND_ID"));
    text(out, "base_model_uri");
    text(out, setting("MODEL_URI"));
    text(out, "num_samples");
    fputc(1, out);
    text(out, "metrics");
    fputc(0x80, out);
    text(out, "update");
    copy_model(out);
    return fclose(out) == 0 ? 0 : 1;
}
