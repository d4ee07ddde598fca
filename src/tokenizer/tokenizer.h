/* Text to tokens and back, as Hugging Face `tokenizers` does it, from a model's tokenizer.json.
 *
 *     text -> added tokens cut out -> normaliser (NFC) -> pre-tokenizer (regex) -> byte-level BPE
 *
 * Understood: the byte-level BPE of GPT-2's descendants (Qwen2, Qwen2.5, Qwen3, Llama 3, Mistral's
 * Tekken), and the SentencePiece-like BPE with byte fallback (Llama 2, older Mistral). Whatever else
 * a file asks for is an error that names it.
 *
 * Text is UTF-8. Invalid bytes count as U+FFFD, one for each maximal subpart of an ill-formed
 * sequence (Unicode 15, 3.9; what Python's errors="replace" does).
 *
 * A tokenizer keeps the words it has seen; use it from one thread at a time. */
#ifndef COP_TOKENIZER_TOKENIZER_H
#define COP_TOKENIZER_TOKENIZER_H

#include "base/conversation.h"

typedef struct cop_tokenizer cop_tokenizer;

/* path: tokenizer.json, or the folder that has it. COP_ERR_INVALID with file and place, or
 * if it cannot be opened;
 * COP_ERR_UNSUPPORTED naming what is not understood. */
cop_status cop_tokenizer_open(cop_tokenizer **out, const char *path, cop_error *err);
/* The same of text in memory, for tests and fuzzing; `name` is for messages. */
cop_status cop_tokenizer_parse(cop_tokenizer **out, const char *json, size_t bytes,
                               const char *name, cop_error *err);
void cop_tokenizer_close(cop_tokenizer *tokenizer); /* NULL is legal */

uint32_t cop_tokenizer_size(const cop_tokenizer *tokenizer); /* the highest id + 1 */
/* Id of a token of exactly this text (added tokens first), or COP_NO_TOKEN (base/request.h). */
uint32_t cop_tokenizer_find(const cop_tokenizer *tokenizer, const char *text);
bool cop_tokenizer_special(const cop_tokenizer *tokenizer, uint32_t id);

enum {
    COP_ENCODE_ADDED = 1,   /* added tokens in the text stand for themselves; without: plain text */
    COP_ENCODE_TEMPLATE = 2 /* what the post-processor puts around it: <|begin_of_text|> */
};

/* Appends to *out; nothing is appended by a call that fails. COP_ERR_INVALID where the vocabulary
 * lacks a token for some byte, for more than 2^30 bytes, and where a regex gives up on the text;
 * COP_ERR_UNSUPPORTED where the normaliser makes more than some 8 times the text of it. */
cop_status cop_tokenizer_encode(cop_tokenizer *tokenizer, const char *text, size_t bytes,
                                unsigned flags, cop_tokens *out, cop_error *err);

/* Forgets the words that were seen, for measurements. */
void cop_tokenizer_forget(cop_tokenizer *tokenizer);

/* Bytes that a stream of tokens stands for, given out in whole characters: a token can end in the
 * middle of one.
 *
 * Ill-formed bytes become U+FFFD by the rule above. Of the tokens of byte fallback (<0xE4>) Hugging
 * Face decides when it has seen a whole run of them: if the run is not well-formed, each of its bytes
 * is a U+FFFD, well-formed ones too. A stream cannot wait for that:
 *
 *     <0xE4> <0xBD> a             here U+FFFD a      there U+FFFD U+FFFD a
 *     <0xE4> <0xBD> <0xA0> <0xFF> here U+4F60 U+FFFD there 4 U+FFFD
 *     <0xFF> <0x41>               here U+FFFD A      there 2 U+FFFD */
typedef struct {
    const cop_tokenizer *tokenizer;
    bool keep_special; /* else special tokens stand for nothing */
    bool started;
    uint8_t held_bytes;
    char held[4];
} cop_decoder;

void cop_decoder_init(cop_decoder *decoder, const cop_tokenizer *tokenizer, bool keep_special);
/* Bytes that `id` completes, ill-formed ones as U+FFFD. Returns how many were written to
 * out[capacity]; or the room that is needed, if that is more: nothing happened then but that out may
 * hold anything. Unknown ids stand for nothing. */
size_t cop_decoder_push(cop_decoder *decoder, uint32_t id, char *out, size_t capacity);
/* What is held at the end of the stream, ill-formed as it is: U+FFFD, or nothing. */
size_t cop_decoder_end(cop_decoder *decoder, char *out, size_t capacity);

#endif
