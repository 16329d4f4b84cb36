/* Summarises one column of a CSV file with a header: number of values, minimum, mean, maximum.
 *
 * Reads /in/readings if the task has that input, else the file that the environment's CSV names,
 * such as /data/sensors/readings.csv; COLUMN names the column. Writes JSON to /out/summary.
 * Empty cells are counted as missing; a cell that is no number ends the task with its line.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CELL = 4096 };
typedef enum { CELL, LAST_CELL, END } Found;

typedef struct {
    unsigned long values, missing;
    double smallest, largest, mean;
} Summary;

static unsigned long line = 1;

static void fail(const char *message, const char *what) {
    fprintf(stderr, "sensor-summary: line %lu: %s%s\n", line, message, what);
    exit(1);
}

/* Read one cell; quoted cells may hold commas, doubled quotes and line breaks (RFC 4180). */
static Found read_cell(FILE *file, char *cell) {
    size_t length = 0;
    int quoted = 0, byte = getc(file);
    if (byte == EOF) return END;
    if (byte == '"') {
        quoted = 1;
        byte = getc(file);
    }
    for (;; byte = getc(file)) {
        if (quoted && byte == '"') {
            int next = getc(file);
            if (next != '"') {
                quoted = 0;
                byte = next;
            }
        }
        if (byte == EOF && quoted) fail("a quoted cell has no end", "");
        if (!quoted && (byte == ',' || byte == '\n' || byte == EOF)) break;
        if (byte == '\n') line++;
        if (!quoted && byte == '\r') continue;
        if (length + 1 >= MAX_CELL) fail("a cell is longer than 4095 bytes", "");
        cell[length++] = (char)byte;
    }
    cell[length] = '\0';
    return byte == ',' ? CELL : LAST_CELL;
}

/* Read the header and return the index of the column. */
static unsigned long find_column(FILE *file, const char *name) {
    char cell[MAX_CELL];
    unsigned long index = 0, column = 0;
    int seen = 0;
    Found found;
    do {
        found = read_cell(file, cell);
        if (found != END && !seen && strcmp(cell, name) == 0) {
            column = index;
            seen = 1;
        }
        index++;
    } while (found == CELL);
    if (!seen) fail("the header has no column ", name);
    return column;
}

static void add(Summary *summary, const char *cell) {
    if (*cell == '\0') {
        summary->missing++;
        return;
    }
    char *end;
    double value = strtod(cell, &end);
    if (*end != '\0' || !isfinite(value)) fail("not a finite number: ", cell);
    if (summary->values == 0 || value < summary->smallest) summary->smallest = value;
    if (summary->values == 0 || value > summary->largest) summary->largest = value;
    summary->values++;
    /* The running mean neither overflows nor loses small values beside a large sum. */
    summary->mean += (value - summary->mean) / (double)summary->values;
}

static Summary summarise(FILE *file, unsigned long column) {
    char cell[MAX_CELL];
    Summary summary = {0};
    for (;;) {
        line++;
        unsigned long index = 0;
        int found_column = 0, empty_line = 0;
        Found found;
        do {
            found = read_cell(file, cell);
            if (found == END && index == 0) return summary;
            empty_line = index == 0 && found == LAST_CELL && *cell == '\0';
            if (index++ == column && found != END && !empty_line) {
                add(&summary, cell);
                found_column = 1;
            }
        } while (found == CELL);
        if (!found_column && !empty_line) summary.missing++;
    }
}

static void write_text(FILE *file, const char *text) {
    putc('"', file);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putc('\\', file);
        if ((unsigned char)*text < 0x20)
            fprintf(file, "\\u%04x", *text);
        else
            putc(*text, file);
    }
    putc('"', file);
}

static void write_summary(const Summary *summary, const char *column) {
    FILE *file = fopen("/out/summary", "wb");
    if (file == NULL) fail("/out/summary cannot be written", "");
    fputs("{\"column\":", file);
    write_text(file, column);
    fprintf(file, ",\"values\":%lu,\"missing\":%lu,\"min\":%.17g,\"mean\":%.17g,\"max\":%.17g}\n",
            summary->values, summary->missing, summary->smallest, summary->mean, summary->largest);
    if (fclose(file) != 0) fail("/out/summary cannot be written", "");
}

int main(void) {
    const char *path = getenv("CSV"), *column = getenv("COLUMN");
    if (column == NULL) fail("set COLUMN to the name of a column", "");
    FILE *file = fopen("/in/readings", "rb");
    if (file == NULL && path == NULL) fail("give an input 'readings', or name a file in CSV", "");
    if (file == NULL) file = fopen(path, "rb");
    if (file == NULL) fail("there is no file ", path);
    Summary summary = summarise(file, find_column(file, column));
    if (ferror(file)) fail("the file cannot be read", "");
    if (summary.values == 0) fail("there is no value in column ", column);
    write_summary(&summary, column);
    printf("{\"values\":%lu}\n", summary.values);
    return 0;
}
