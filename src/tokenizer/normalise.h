/* Normalisers: what a text becomes before it is cut into words. */
#ifndef COP_TOKENIZER_NORMALISE_H
#define COP_TOKENIZER_NORMALISE_H

#include "base/buffer.h"

#include <stdbool.h>

typedef enum {
    COP_NORMALISE_NFC,     /* canonical composition, by utf8proc */
    COP_NORMALISE_PREPEND, /* `content` in front of any text that is not empty */
    COP_NORMALISE_REPLACE  /* every `pattern`, from the left, by `content` */
} cop_normalise_kind;

typedef struct {
    cop_normalise_kind kind;
    char *pattern, *content; /* owned */
    size_t pattern_bytes, content_bytes;
} cop_normalise_step;

enum { COP_NFC_CODES = 0x30000 }; /* nothing above composes or decomposes */

typedef struct {
    uint64_t open[COP_NFC_CODES / 64]; /* a bit for each character that NFC may touch: see nfc.c */
} cop_nfc_table;

typedef struct {
    cop_normalise_step *steps;
    size_t count, capacity;
    cop_nfc_table *nfc;    /* NULL: no step needs it */
    cop_buffer scratch[2]; /* steps write to these by turns */
} cop_normaliser;          /* zero-initialise */

void cop_normaliser_fini(cop_normaliser *normaliser);

/* Borrowed: the text itself if nothing changes it, else valid until the next call. */
const char *cop_normalise(cop_normaliser *normaliser, const char *text, size_t bytes,
                          size_t *out_bytes);

/* Appends `text` with every `pattern` replaced; also what decoders do to a token. */
void cop_replace(const char *text, size_t bytes, const cop_normalise_step *step, cop_buffer *out);

void cop_nfc_init(cop_nfc_table *table); /* takes a millisecond */
/* NFC (Unicode Standard Annex 15) of well-formed UTF-8; see nfc.c. Returns false, nothing appended,
 * if the text is in that form already. Time is linear, whatever the text. */
bool cop_nfc(const cop_nfc_table *table, const char *text, size_t bytes, cop_buffer *out);

#endif
