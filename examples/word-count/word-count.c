/* Counts the words of /in/text and writes them, most frequent first, as JSON to /out/counts.
 *
 * A word is a run of letters, digits, apostrophes inside it, and all of Unicode beyond ASCII;
 * ASCII letters are counted in lower case. The environment's TOP limits how many are listed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 1024, CHUNK = 65536 };

typedef struct {
    char *text; /* NULL: the slot is free */
    size_t length;
    unsigned long count;
} Word;

typedef struct {
    Word *slots;
    size_t size; /* a power of two */
    size_t used;
} Table;

static void fail(const char *message) {
    fprintf(stderr, "word-count: %s\n", message);
    exit(1);
}

static void *need(void *memory) {
    if (memory == NULL) fail("the text does not fit into this task's memory limit");
    return memory;
}

static char *read_all(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("there is no /in/text: give the task an input named 'text'");
    char *text = NULL;
    size_t used = 0, got;
    do {
        text = need(realloc(text, used + CHUNK));
        got = fread(text + used, 1, CHUNK, file);
        used += got;
    } while (got > 0);
    if (ferror(file)) fail("/in/text cannot be read");
    fclose(file);
    *length = used;
    return text;
}

/* Bytes of the UTF-8 sequence that begins here (RFC 3629); 0 if there is none. */
static size_t utf8(const unsigned char *at, size_t left) {
    unsigned char first = at[0];
    size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3
                  : first < 0xF5 ? 4 : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    if ((first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F)) return 0;
    if ((first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] > 0x8F)) return 0;
    return length;
}

static void check_utf8(const char *text, size_t length) {
    for (size_t at = 0; at < length;) {
        size_t step = utf8((const unsigned char *)text + at, length - at);
        if (step == 0) fail("the text is not UTF-8");
        at += step;
    }
}

static int is_upper(unsigned char byte) { return byte >= 'A' && byte <= 'Z'; }

static int in_word(unsigned char byte) {
    return byte >= 0x80 || is_upper(byte) || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9');
}

static Word *find(Table *table, const char *text, size_t length) {
    unsigned long long hash = 14695981039346656037ULL; /* FNV-1a */
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 1099511628211ULL;
    size_t slot = hash & (table->size - 1);
    while (table->slots[slot].text != NULL &&
           (table->slots[slot].length != length ||
            memcmp(table->slots[slot].text, text, length) != 0))
        slot = (slot + 1) & (table->size - 1);
    return &table->slots[slot];
}

static void grow(Table *table) {
    Table bigger = {need(calloc(table->size * 2, sizeof(Word))), table->size * 2, table->used};
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].text != NULL)
            *find(&bigger, table->slots[i].text, table->slots[i].length) = table->slots[i];
    free(table->slots);
    *table = bigger;
}

static void count(Table *table, char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (is_upper((unsigned char)text[i])) text[i] += 'a' - 'A';
    Word *word = find(table, text, length);
    if (word->text != NULL) {
        word->count++;
        return;
    }
    *word = (Word){text, length, 1};
    if (++table->used * 2 > table->size) grow(table);
}

static unsigned long count_all(Table *table, char *text, size_t length) {
    unsigned long words = 0;
    for (size_t at = 0; at < length;) {
        size_t start = at;
        while (at < length &&
               (in_word((unsigned char)text[at]) ||
                (text[at] == '\'' && at > start && at + 1 < length &&
                 in_word((unsigned char)text[at + 1]))))
            at++;
        if (at > start) {
            count(table, text + start, at - start);
            words++;
        } else {
            at++;
        }
    }
    return words;
}

static int by_count(const void *left, const void *right) {
    const Word *a = left, *b = right;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->text, b->text, shorter);
    if (order != 0) return order;
    return a->length < b->length ? -1 : 1;
}

static size_t wanted(size_t distinct) {
    const char *top = getenv("TOP");
    if (top == NULL || *top == '\0') return distinct;
    char *end;
    unsigned long limit = strtoul(top, &end, 10);
    if (*end != '\0' || *top == '-') fail("TOP is no number");
    return limit < distinct ? limit : distinct;
}

static void write_counts(Table *table, unsigned long words) {
    size_t distinct = 0;
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].text != NULL) table->slots[distinct++] = table->slots[i];
    qsort(table->slots, distinct, sizeof(Word), by_count);
    size_t listed = wanted(distinct);
    FILE *file = fopen("/out/counts", "wb");
    if (file == NULL) fail("/out/counts cannot be written");
    fprintf(file, "{\"words\":%lu,\"distinct\":%lu,\"counts\":{", words, (unsigned long)distinct);
    for (size_t i = 0; i < listed; i++) {
        /* No word holds a character that JSON would escape. */
        fprintf(file, "%s\"", i ? "," : "");
        fwrite(table->slots[i].text, 1, table->slots[i].length, file);
        fprintf(file, "\":%lu", table->slots[i].count);
    }
    fprintf(file, "}}\n");
    if (fclose(file) != 0) fail("/out/counts cannot be written");
}

int main(void) {
    size_t length;
    char *text = read_all("/in/text", &length);
    check_utf8(text, length);
    Table table = {need(calloc(FIRST_SLOTS, sizeof(Word))), FIRST_SLOTS, 0};
    unsigned long words = count_all(&table, text, length);
    write_counts(&table, words);
    printf("{\"words\":%lu}\n", words);
    return 0;
}
