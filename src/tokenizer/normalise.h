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

/* A file of a few lines can ask for texts of any length, each step making more of what the last one
 * made. So there are this many steps, and what they make of a text has an end. */
enum { COP_NORMALISE_STEPS = 16 };

/* The most that `bytes` of text may become: NFC and marks for spaces make 3 of 1. */
static inline size_t cop_normalise_most(size_t bytes)
{
    return 8 * bytes + 256;
}

/* A new step, of this kind and else empty; NULL if there are COP_NORMALISE_STEPS. */
cop_normalise_step *cop_normaliser_add(cop_normaliser *normaliser, cop_normalise_kind kind);

/* Borrowed: the text itself if nothing changes it, else valid until the next call. NULL if some step
 * makes more than `most` bytes. */
const char *cop_normalise(cop_normaliser *normaliser, const char *text, size_t bytes, size_t most,
                          size_t *out_bytes);

/* Appends `text` with every `pattern` replaced; also what decoders do to a token. False, and `out`
 * holding anything, if it would then hold more than `most` bytes. */
bool cop_replace(const char *text, size_t bytes, const cop_normalise_step *step, size_t most,
                 cop_buffer *out);

void cop_nfc_init(cop_nfc_table *table); /* takes a millisecond */
/* NFC (Unicode Standard Annex 15) of well-formed UTF-8; see nfc.c. Returns false, nothing appended,
 * if the text is in that form already. Time is linear, whatever the text.
 *
 * utf8proc 2.8 has Unicode 15, `tokenizers` 0.23 normalises by Unicode 9: the 108 characters that
 * combine or compose and are newer (U+07FD, U+0898 ... U+1E4EF) are moved and composed here, and left
 * where they are there. On all others the two agree. */
bool cop_nfc(const cop_nfc_table *table, const char *text, size_t bytes, cop_buffer *out);

#endif
