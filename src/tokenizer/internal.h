/* What a tokenizer is made of, for the files of this folder. */
#ifndef COP_TOKENIZER_INTERNAL_H
#define COP_TOKENIZER_INTERNAL_H

#include "base/alloc.h"
#include "base/json.h"
#include "tokenizer/added.h"
#include "tokenizer/merges.h"
#include "tokenizer/normalise.h"
#include "tokenizer/regex.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab.h"
#include "tokenizer/word_cache.h"

/* Pre-tokenizer: stages, each of which cuts the pieces of the one before. */
typedef enum {
    COP_STAGE_SPLIT,        /* at the matches of a regex */
    COP_STAGE_PREFIX_SPACE, /* a space in front of a piece that has none */
    COP_STAGE_METASPACE     /* spaces to a mark, cut in front of each */
} cop_stage_kind;

typedef enum { COP_PREPEND_ALWAYS, COP_PREPEND_FIRST, COP_PREPEND_NEVER } cop_prepend;

typedef struct {
    cop_stage_kind kind;
    cop_regex *regex;          /* split; owned */
    bool drop_hits, drop_gaps; /* split: matches, or what lies between, are no pieces */
    cop_normalise_step mark;   /* metaspace: " " -> mark; owned */
    cop_prepend prepend;       /* metaspace: put a mark in front of which pieces */
    bool cut;                  /* metaspace: cut at marks */
    cop_buffer scratch;
} cop_stage;

enum { COP_STAGES = 16 };

typedef enum {
    COP_STRIP_NONE,
    COP_STRIP_SPACE, /* one space at the start of the text */
    COP_STRIP_MARKS  /* every mark of the first token */
} cop_strip;

struct cop_tokenizer {
    cop_vocab vocab;
    cop_merges merges;

    /* model */
    bool ignore_merges; /* a word that is a token is that token, whatever the rules */
    bool byte_fallback, fuse_unknown;
    uint32_t unknown;         /* or COP_NO_TOKEN */
    bool byte_level;          /* symbols are bytes; else characters */
    uint32_t byte_unit[256];  /* byte_level: token of each byte, or COP_NO_TOKEN */
    uint32_t byte_token[256]; /* "<0x00>" .. "<0xFF>", or COP_NO_TOKEN */

    cop_added added, added_normalised; /* looked for before, and after the normaliser */
    cop_normaliser normaliser;
    cop_stage stages[COP_STAGES];
    size_t stage_count;
    cop_tokens before, after; /* template: tokens around a text */
    cop_strip strip;

    size_t room; /* bytes that the normaliser may still make of the piece in hand */
    cop_word_cache cache;
    cop_tokens symbols;  /* of the word in hand */
    cop_buffer repaired; /* the text, where it was ill-formed */
    cop_buffer spelled;  /* the word in hand in the byte-level alphabet */
};

static inline void cop_tokens_put(cop_tokens *tokens, uint32_t id)
{
    COP_GROW(tokens->ids, tokens->capacity, tokens->count + 1);
    tokens->ids[tokens->count++] = id;
}

/* The pipeline from one piece of text, well-formed, to tokens. */

/* encode.c: `first`: the piece begins the text (what Metaspace's "first" asks for); `added`: cut out
 * added tokens. */
cop_status cop_encode_piece(cop_tokenizer *t, const char *text, size_t bytes, bool first,
                            bool added, cop_tokens *out, cop_error *err);
/* pretokenize.c: a normalised piece, through the stages from `stage` on, to words. */
cop_status cop_pretokenize(cop_tokenizer *t, size_t stage, const char *text, size_t bytes,
                           bool first, cop_tokens *out, cop_error *err);
/* word.c: one word, not empty. */
cop_status cop_encode_word(cop_tokenizer *t, const char *word, size_t bytes, cop_tokens *out,
                           cop_error *err);

/* load_pipeline.c: the parts of the file beside the model, each NULL if it has none. */
cop_status cop_load_normaliser(cop_tokenizer *t, const cop_json *json, const char *name,
                               cop_error *err);
cop_status cop_load_pre_tokenizer(cop_tokenizer *t, const cop_json *json, const char *name,
                                  cop_error *err);
cop_status cop_load_post_processor(cop_tokenizer *t, const cop_json *json, const char *name,
                                   cop_error *err);
/* load_decoder.c: last, when all tokens are there: says what each means. */
cop_status cop_load_decoder(cop_tokenizer *t, const cop_json *json, const char *name,
                            cop_error *err);

/* For messages: printable, in quotes, cut when long. */
typedef struct {
    char text[64];
} cop_shown;

cop_shown cop_show(const char *text, size_t bytes);
/* Text of a token known by its `id`. */
cop_shown cop_show_token(const cop_tokenizer *t, uint32_t id);

#endif
