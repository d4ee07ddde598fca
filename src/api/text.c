/* Text in, text out: the model's tokenizer and chat template behind coppice.h. */
#include "api/handles.h"

#include "base/alloc.h"
#include "model/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cop_status cop_model_open_text(cop_model *model, const char *folder, cop_error *err)
{
    size_t room = strlen(folder) + sizeof "/tokenizer.json";
    char *path = cop_malloc(room);
    snprintf(path, room, "%s/tokenizer.json", folder);
    cop_status status = COP_OK;
    if (access(path, F_OK) == 0)
        status = cop_tokenizer_open(&model->tokenizer, path, err);
    if (status == COP_OK && model->tokenizer) {
        uint32_t size = cop_tokenizer_size(model->tokenizer), vocab = model->geometry->vocab;
        if (size > vocab)
            status = cop_fail(err, COP_ERR_INVALID,
                              "%s: its tokens go up to %u, those of the model (vocab_size in "
                              "config.json) up to %u",
                              path, size - 1, vocab - 1);
    }
    free(path);
    if (status != COP_OK || !model->tokenizer)
        return status;
    /* A model without a chat template is whole without one; who asks for it gets the error. */
    const cop_checkpoint *checkpoint = cop_weights_checkpoint(model->weights);
    cop_error unheard;
    if (cop_chat_open(&model->chat, cop_checkpoint_family(checkpoint), model->tokenizer,
                      &unheard) != COP_OK)
        model->chat = NULL;
    return COP_OK;
}

void cop_model_close_text(cop_model *model)
{
    cop_chat_close(model->chat);
    cop_tokenizer_close(model->tokenizer);
}

bool cop_text_ends_answer(const cop_model *model, uint32_t token)
{
    return model->chat && token == cop_chat_stop(model->chat);
}

static cop_status need_tokenizer(const cop_model *model, cop_error *err)
{
    if (!model->tokenizer)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "%s has no tokenizer.json: it knows tokens only",
                        model->name);
    return COP_OK;
}

/* Frees `found`. */
static void hand_out(cop_tokens *found, uint32_t *tokens, size_t capacity, size_t *count)
{
    size_t n = found->count < capacity ? found->count : capacity;
    if (n)
        memcpy(tokens, found->ids, n * sizeof *tokens);
    *count = found->count;
    free(found->ids);
}

cop_status cop_tokenize(cop_model *model, const char *text, size_t bytes, unsigned flags,
                        uint32_t *tokens, size_t capacity, size_t *count, cop_error *err)
{
    unsigned encode = (flags & COP_TEXT_SPECIAL ? COP_ENCODE_ADDED : 0) |
                      (flags & COP_TEXT_BEGIN ? COP_ENCODE_TEMPLATE : 0);
    cop_tokens found = {0};
    cop_status status = need_tokenizer(model, err);
    if (status == COP_OK)
        status = cop_tokenizer_encode(model->tokenizer, text, bytes, encode, &found, err);
    if (status == COP_OK)
        hand_out(&found, tokens, capacity, count);
    else
        free(found.ids);
    return status;
}

static cop_status encode_chat(cop_model *model, const char *system, const char *const *turns,
                              size_t n, cop_tokens *out, cop_error *err)
{
    cop_chat_message *messages = cop_malloc((n + 1) * sizeof *messages);
    size_t count = 0;
    if (system)
        messages[count++] = (cop_chat_message){COP_ROLE_SYSTEM, system, strlen(system)};
    for (size_t i = 0; i < n; i++)
        messages[count++] = (cop_chat_message){i % 2 ? COP_ROLE_ASSISTANT : COP_ROLE_USER, turns[i],
                                               strlen(turns[i])};
    cop_status status = cop_chat_encode(model->chat, messages, count, true, out, err);
    free(messages);
    return status;
}

cop_status cop_tokenize_chat(cop_model *model, const char *system, const char *const *turns,
                             size_t n, uint32_t *tokens, size_t capacity, size_t *count,
                             cop_error *err)
{
    cop_status status = need_tokenizer(model, err);
    if (status == COP_OK && n % 2 == 0)
        status = cop_fail(err, COP_ERR_INVALID,
                          "a conversation of %zu turns: the user has the first and the last", n);
    if (status == COP_OK && !model->chat) /* says why there is none */
        status = cop_chat_open(&model->chat,
                               cop_checkpoint_family(cop_weights_checkpoint(model->weights)),
                               model->tokenizer, err);
    cop_tokens found = {0};
    if (status == COP_OK)
        status = encode_chat(model, system, turns, n, &found, err);
    if (status == COP_OK)
        hand_out(&found, tokens, capacity, count);
    else
        free(found.ids);
    return status;
}

void cop_answer_init(cop_answer *answer, const cop_model *model)
{
    *answer = (cop_answer){.tokenizer = model->tokenizer};
    if (answer->tokenizer)
        cop_decoder_init(&answer->decoder, answer->tokenizer, false);
}

void cop_answer_fini(cop_answer *answer)
{
    free(answer->text);
}

/* The decoder either writes all it has or says how much room it wants. */
const char *cop_answer_push(cop_answer *answer, uint32_t token, bool last, size_t *bytes)
{
    enum { END_BYTES = 16 }; /* of what a decoder can hold back, and the zero */
    *bytes = 0;
    if (!answer->tokenizer)
        return "";
    COP_GROW(answer->text, answer->capacity, 64);
    cop_decoder before = answer->decoder;
    size_t room = answer->capacity - END_BYTES;
    size_t n = cop_decoder_push(&answer->decoder, token, answer->text, room);
    if (n > room) {
        COP_GROW(answer->text, answer->capacity, n + END_BYTES);
        answer->decoder = before;
        n = cop_decoder_push(&answer->decoder, token, answer->text, n);
    }
    if (last)
        n += cop_decoder_end(&answer->decoder, answer->text + n, END_BYTES - 1);
    answer->text[n] = '\0';
    *bytes = n;
    return answer->text;
}

cop_status cop_detokenize(cop_model *model, const uint32_t *tokens, size_t count, char *text,
                          size_t capacity, size_t *bytes, cop_error *err)
{
    cop_status status = need_tokenizer(model, err);
    if (status != COP_OK)
        return status;
    cop_answer answer;
    cop_answer_init(&answer, model);
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n;
        const char *piece = cop_answer_push(&answer, tokens[i], i + 1 == count, &n);
        if (total < capacity)
            memcpy(text + total, piece, n < capacity - total ? n : capacity - total);
        total += n;
    }
    if (total < capacity)
        text[total] = '\0';
    *bytes = total;
    cop_answer_fini(&answer);
    return COP_OK;
}
