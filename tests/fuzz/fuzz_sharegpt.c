/* Any bytes: the reader takes them or says what is wrong, what it takes keeps every promise of
 * sharegpt.h, and the tokens of a request come back as they were encoded. With skip_bad it takes at
 * least as much. */
#include "base/alloc.h"
#include "base/check.h"
#include "workload/sharegpt.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A byte is a token; 256 + role begins a message, 259 makes the assistant speak. */
static cop_status encode_text(void *self, const char *text, size_t bytes, cop_tokens *out,
                              cop_error *err)
{
    COP_GROW(out->ids, out->capacity, out->count + bytes);
    for (size_t i = 0; i < bytes; i++)
        out->ids[out->count++] = (uint8_t)text[i];
    return COP_OK;
}

static cop_status encode_chat(void *self, const cop_chat_message *messages, size_t count, bool ask,
                              cop_tokens *out, cop_error *err)
{
    for (size_t i = 0; i < count + ask; i++) {
        COP_GROW(out->ids, out->capacity, out->count + 1);
        out->ids[out->count++] = i < count ? 256 + messages[i].role : 259;
        if (i < count)
            encode_text(self, messages[i].text, messages[i].bytes, out, err);
    }
    return COP_OK;
}

static const cop_text_encoder encoder = {encode_text, encode_chat, NULL};

static void check_dialogue(const cop_dialogue *d)
{
    COP_CHECK(d->turns >= 1 && d->count == d->has_system + 2 * (size_t)d->turns);
    for (size_t i = 0; i < d->count; i++) {
        cop_role expected = d->has_system && i == 0        ? COP_ROLE_SYSTEM
                            : (i - d->has_system) % 2 == 0 ? COP_ROLE_USER
                                                           : COP_ROLE_ASSISTANT;
        COP_CHECK(d->messages[i].role == expected && d->messages[i].bytes > 0);
    }
}

static void check_turn(const cop_transcripts *all, uint64_t session, const cop_dialogue *d,
                       uint32_t t)
{
    cop_request r;
    cop_error err;
    cop_tokens expected = {0};
    size_t question = d->has_system + 2 * (size_t)t;
    encode_chat(NULL, d->messages, question + 1, true, &expected, &err);
    size_t prompt = expected.count;
    encode_text(NULL, d->messages[question + 1].text, d->messages[question + 1].bytes, &expected,
                &err);
    cop_transcripts_request(all, session, t, &r);
    COP_CHECK(r.prompt_tokens == prompt && prompt + r.output_tokens == expected.count);
    COP_CHECK(memcmp(r.tokens, expected.ids, expected.count * sizeof *r.tokens) == 0);
    free((void *)r.tokens);
    free(expected.ids);
}

/* Turns in all, or -1 if the text is refused. */
static long take(const char *text, size_t size, bool skip)
{
    cop_sharegpt *reader;
    cop_transcripts all;
    cop_transcripts_options options = {.encoder = &encoder, .vocab = 260};
    cop_error err;
    cop_sharegpt_open_text(&reader, "fuzz", text, size, skip);
    cop_status status = cop_transcripts_read(&all, reader, &options, &err);
    cop_sharegpt_close(reader);
    if (status != COP_OK) {
        COP_CHECK(strncmp(err.text, "fuzz:", 5) == 0 && !strchr(err.text, '\n'));
        return -1;
    }
    cop_dialogue d;
    bool found;
    COP_CHECK(all.counts.bytes == size && (skip || all.counts.bad == 0));
    cop_sharegpt_open_text(&reader, "fuzz", text, size, skip);
    for (uint64_t session = 0; session < all.session_count; session++) {
        COP_CHECK(cop_sharegpt_next(reader, &d, &found, &err) == COP_OK && found);
        check_dialogue(&d);
        COP_CHECK(d.turns == cop_transcripts_turns(&all, session));
        for (uint32_t t = 0; t < d.turns; t++)
            check_turn(&all, session, &d, t);
    }
    long turns = (long)all.turn_count;
    cop_sharegpt_close(reader);
    cop_transcripts_fini(&all);
    return turns;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    long strict = take((const char *)data, size, false),
         lenient = take((const char *)data, size, true);
    COP_CHECK(strict < 0 || lenient == strict);
    return 0;
}
