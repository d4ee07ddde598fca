/* Regular expressions of pre-tokenizers: PCRE2 with Unicode properties, made to mean what they mean
 * to Oniguruma (Ruby syntax), the engine of Hugging Face `tokenizers`.
 *
 *     \s \S    White_Space (PCRE2's own has U+180E too)
 *     ^ $      at every line; lines end at \n
 *     \p{..}   general categories alone: scripts mean other things to PCRE2
 *
 * What the two read differently, or only one knows, is refused by name. What remains is their
 * Unicode version: PCRE2 10.42 has 14, the wheels of tokenizers 0.23 have 16, so a character that is
 * newer than PCRE2's Unicode counts as unassigned: neither letter nor number. Of all code points that
 * is 9,272 letters (4,192 ideographs of extension H among them), 120 numbers and 93 marks; \s, and the
 * letters that (?i:'s|'t|...) finds, are the same. */
#ifndef COP_TOKENIZER_REGEX_H
#define COP_TOKENIZER_REGEX_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct cop_regex cop_regex;

/* `literal`: the pattern is a plain string. `where` names the place for messages.
 * COP_ERR_INVALID: malformed; COP_ERR_UNSUPPORTED: a construct that is refused. */
cop_status cop_regex_open(cop_regex **out, const char *pattern, size_t bytes, bool literal,
                          const char *where, cop_error *err);
void cop_regex_close(cop_regex *regex); /* NULL is legal */

#define COP_NO_MATCH SIZE_MAX

/* Leftmost match at or after `from` in well-formed UTF-8: [*begin, *end), or *begin = COP_NO_MATCH.
 * COP_ERR_INVALID: the engine gave up. Not for two threads at once. */
cop_status cop_regex_find(cop_regex *regex, const char *text, size_t bytes, size_t from,
                          size_t *begin, size_t *end, cop_error *err);

#endif
