#define _GNU_SOURCE /* memmem */
#include "tokenizer/internal.h"
#include "tokenizer/utf8.h"

#include <string.h>

/* Matches and what lies between them, in order, each to the next stage. An empty match cuts without
 * being a piece. */
static cop_status split(cop_tokenizer *t, size_t stage, const char *text, size_t bytes, bool first,
                        cop_tokens *out, cop_error *err)
{
    cop_stage *s = &t->stages[stage];
    size_t done = 0, from = 0;
    cop_status status = COP_OK;
    while (status == COP_OK && done < bytes) {
        size_t begin = COP_NO_MATCH, end = bytes;
        if (from <= bytes)
            status = cop_regex_find(s->regex, text, bytes, from, &begin, &end, err);
        if (begin == COP_NO_MATCH)
            begin = end = bytes;
        if (status == COP_OK && begin > done && !s->drop_gaps)
            status = cop_pretokenize(t, stage + 1, text + done, begin - done, first && done == 0,
                                     out, err);
        if (status == COP_OK && end > begin && !s->drop_hits)
            status = cop_pretokenize(t, stage + 1, text + begin, end - begin, first && begin == 0,
                                     out, err);
        done = from = end;
        if (begin == end && end < bytes) {
            size_t length;
            cop_utf8_decode((const uint8_t *)text + end, &length);
            from = end + length;
        }
    }
    return status;
}

static cop_status prefix_space(cop_tokenizer *t, size_t stage, const char *text, size_t bytes,
                               bool first, cop_tokens *out, cop_error *err)
{
    cop_buffer *scratch = &t->stages[stage].scratch;
    if (text[0] == ' ')
        return cop_pretokenize(t, stage + 1, text, bytes, first, out, err);
    scratch->size = 0;
    cop_buffer_put(scratch, " ", 1);
    cop_buffer_put(scratch, text, bytes);
    return cop_pretokenize(t, stage + 1, (const char *)scratch->data, scratch->size, first, out,
                           err);
}

static cop_status metaspace(cop_tokenizer *t, size_t stage, const char *text, size_t bytes,
                            bool first, cop_tokens *out, cop_error *err)
{
    cop_stage *s = &t->stages[stage];
    const char *mark = s->mark.content;
    size_t mark_bytes = s->mark.content_bytes;
    bool wanted = s->prepend == COP_PREPEND_ALWAYS || (s->prepend == COP_PREPEND_FIRST && first);
    bool there = text[0] == ' ' || (bytes >= mark_bytes && memcmp(text, mark, mark_bytes) == 0);
    s->scratch.size = 0;
    if (wanted && !there)
        cop_buffer_put(&s->scratch, mark, mark_bytes);
    cop_replace(text, bytes, &s->mark, SIZE_MAX, &s->scratch); /* a character by a character */
    text = (const char *)s->scratch.data;
    bytes = s->scratch.size;
    if (!s->cut)
        return cop_pretokenize(t, stage + 1, text, bytes, first, out, err);
    cop_status status = COP_OK;
    for (size_t at = 0; at < bytes && status == COP_OK;) {
        const char *next = memmem(text + at + 1, bytes - at - 1, mark, mark_bytes);
        size_t end = next ? (size_t)(next - text) : bytes;
        status = cop_pretokenize(t, stage + 1, text + at, end - at, first && at == 0, out, err);
        at = end;
    }
    return status;
}

cop_status cop_pretokenize(cop_tokenizer *t, size_t stage, const char *text, size_t bytes,
                           bool first, cop_tokens *out, cop_error *err)
{
    if (stage == t->stage_count)
        return cop_encode_word(t, text, bytes, out, err);
    switch (t->stages[stage].kind) {
    case COP_STAGE_SPLIT:
        return split(t, stage, text, bytes, first, out, err);
    case COP_STAGE_PREFIX_SPACE:
        return prefix_space(t, stage, text, bytes, first, out, err);
    case COP_STAGE_METASPACE:
        return metaspace(t, stage, text, bytes, first, out, err);
    }
    return COP_OK;
}
