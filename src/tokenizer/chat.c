#include "tokenizer/chat.h"

#include "base/text.h"
#include "tokenizer/internal.h"
#include "tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct template template;

/* A conversation is written as text between tokens. Text gathers until a token ends it, as what a
 * template writes in one go must be tokenized in one go: "user\n" and the message's first word may
 * share a token. */
typedef struct {
    cop_chat *chat;
    cop_tokens *out;
    cop_error *err;
    cop_status status;
    bool first;        /* nothing was written yet */
    bool after_system; /* the message before was the system's */
} writer;

struct template
{
    const char *name, *stop;
    const char *tokens[4];   /* that the vocabulary must have; NULL ends it */
    const char *families[2]; /* of models that were taught it */
    void (*open)(writer * w);
    void (*message)(writer * w, const cop_chat_message *message);
    void (*ask)(writer * w); /* after a message of the user */
};

struct cop_chat {
    const template *template;
    cop_tokenizer *tokenizer;
    uint32_t stop;
    cop_buffer text; /* gathered */
};

/* ---- Writing ---- */

static void flush(writer *w)
{
    cop_buffer *text = &w->chat->text;
    const char *bytes = (const char *)text->data;
    size_t count = text->size;
    if (w->status != COP_OK || count == 0)
        return;
    cop_tokenizer *t = w->chat->tokenizer;
    if (cop_utf8_valid(text->data, count) < count) {
        t->repaired.size = 0;
        cop_utf8_repair(text->data, count, &t->repaired);
        bytes = (const char *)t->repaired.data;
        count = t->repaired.size;
    }
    w->status = cop_encode_piece(t, bytes, count, w->first, false, w->out, w->err);
    w->first = false;
    text->size = 0;
}

static void text(writer *w, const char *bytes, size_t count)
{
    cop_buffer_put(&w->chat->text, bytes, count);
}

static void plain(writer *w, const char *string)
{
    text(w, string, strlen(string));
}

/* A marker that older vocabularies write as text. */
static void marker(writer *w, const char *string)
{
    uint32_t id = cop_tokenizer_find(w->chat->tokenizer, string);
    if (id == COP_NO_TOKEN) {
        plain(w, string);
        return;
    }
    flush(w);
    cop_tokens_put(w->out, id);
    w->first = false;
}

/* Without the white space around it, as Jinja's `trim` leaves it. */
static void trimmed(writer *w, const cop_chat_message *message)
{
    const uint8_t *at = (const uint8_t *)message->text, *end = at + message->bytes;
    const uint8_t *from = at, *to = at;
    bool inside = false;
    for (size_t length; at < end; at += length) {
        bool whole = cop_utf8_first(at, (size_t)(end - at), &length) == COP_UTF8_WHOLE;
        size_t ignored;
        if (whole && cop_utf8_is_python_space(cop_utf8_decode(at, &ignored)))
            continue;
        if (!inside)
            from = at;
        inside = true;
        to = at + length;
    }
    if (inside)
        text(w, (const char *)from, (size_t)(to - from));
}

static const char *role_name(cop_role role)
{
    static const char *const names[] = {"system", "user", "assistant"};
    return names[role];
}

/* ---- ChatML ---- */

static void chatml_message(writer *w, const cop_chat_message *message)
{
    marker(w, "<|im_start|>");
    plain(w, role_name(message->role));
    plain(w, "\n");
    text(w, message->text, message->bytes);
    marker(w, "<|im_end|>");
    plain(w, "\n");
}

static void chatml_ask(writer *w)
{
    marker(w, "<|im_start|>");
    plain(w, "assistant\n");
}

/* ---- Llama 3 ---- */

static void llama3_open(writer *w)
{
    marker(w, "<|begin_of_text|>");
}

static void llama3_header(writer *w, cop_role role)
{
    marker(w, "<|start_header_id|>");
    plain(w, role_name(role));
    marker(w, "<|end_header_id|>");
    plain(w, "\n\n");
}

static void llama3_message(writer *w, const cop_chat_message *message)
{
    llama3_header(w, message->role);
    trimmed(w, message);
    marker(w, "<|eot_id|>");
}

static void llama3_ask(writer *w)
{
    llama3_header(w, COP_ROLE_ASSISTANT);
}

/* ---- Mistral ----
 * A system message has no markers of its own: it goes before the first message of the user, and not
 * the last as in the templates since v3, so that a conversation begins as it did a turn before. */

static void mistral_open(writer *w)
{
    marker(w, "<s>");
}

static void mistral_message(writer *w, const cop_chat_message *message)
{
    if (message->role == COP_ROLE_ASSISTANT) {
        plain(w, " ");
        trimmed(w, message);
        marker(w, "</s>");
        return;
    }
    if (!w->after_system) {
        marker(w, "[INST]");
        plain(w, " ");
    }
    text(w, message->text, message->bytes);
    if (message->role == COP_ROLE_SYSTEM)
        plain(w, "\n\n");
    else
        marker(w, "[/INST]");
}

static void nothing(writer *w) {}

/* ---- By name ---- */

static const template templates[] = {
    {"chatml",
     "<|im_end|>",
     {"<|im_start|>", "<|im_end|>", NULL},
     {"qwen2", "qwen3"},
     nothing,
     chatml_message,
     chatml_ask},
    {"llama3",
     "<|eot_id|>",
     {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
     {"llama", NULL},
     llama3_open,
     llama3_message,
     llama3_ask},
    {"mistral",
     "</s>",
     {"<s>", "</s>", NULL},
     {NULL, NULL},
     mistral_open,
     mistral_message,
     nothing},
};

enum { TEMPLATES = sizeof templates / sizeof templates[0], FAMILIES = 2, TOKENS = 4 };

static const template *find_template(const char *name)
{
    for (size_t i = 0; i < TEMPLATES; i++) {
        if (strcmp(templates[i].name, name) == 0)
            return &templates[i];
        for (size_t f = 0; f < FAMILIES && templates[i].families[f]; f++)
            if (strcmp(templates[i].families[f], name) == 0)
                return &templates[i];
    }
    return NULL;
}

static cop_status unknown_template(const char *name, cop_error *err)
{
    const char *names[TEMPLATES * (FAMILIES + 1)];
    size_t count = 0;
    for (size_t i = 0; i < TEMPLATES; i++)
        names[count++] = templates[i].name;
    for (size_t i = 0; i < TEMPLATES; i++)
        for (size_t f = 0; f < FAMILIES && templates[i].families[f]; f++)
            names[count++] = templates[i].families[f];
    return cop_unknown_name(err, "unknown chat template", name, names, count);
}

cop_status cop_chat_open(cop_chat **out, const char *name, cop_tokenizer *tokenizer, cop_error *err)
{
    const template *found = find_template(name);
    if (!found)
        return unknown_template(name, err);
    for (size_t i = 0; i < TOKENS && found->tokens[i]; i++)
        if (cop_tokenizer_find(tokenizer, found->tokens[i]) == COP_NO_TOKEN)
            return cop_fail(err, COP_ERR_INVALID,
                            "chat template %s: the tokenizer has no token '%s'", found->name,
                            found->tokens[i]);
    cop_chat *chat = cop_calloc(1, sizeof *chat);
    chat->template = found;
    chat->tokenizer = tokenizer;
    chat->stop = cop_tokenizer_find(tokenizer, found->stop);
    *out = chat;
    return COP_OK;
}

void cop_chat_close(cop_chat *chat)
{
    if (!chat)
        return;
    cop_buffer_fini(&chat->text);
    free(chat);
}

const char *cop_chat_name(const cop_chat *chat)
{
    return chat->template->name;
}

uint32_t cop_chat_stop(const cop_chat *chat)
{
    return chat->stop;
}

/* A system message or none, then user and assistant by turns; `ask`: the user last. */
static cop_status check_roles(const cop_chat_message *messages, size_t count, bool ask,
                              cop_error *err)
{
    size_t system = count > 0 && messages[0].role == COP_ROLE_SYSTEM;
    for (size_t i = system; i < count; i++) {
        cop_role wanted = (i - system) % 2 ? COP_ROLE_ASSISTANT : COP_ROLE_USER;
        if (messages[i].role != wanted)
            return cop_fail(err, COP_ERR_INVALID,
                            "message %zu of the chat is from the %s; it is the turn of the %s",
                            i + 1, role_name(messages[i].role), role_name(wanted));
    }
    if (ask && (count == system || messages[count - 1].role != COP_ROLE_USER))
        return cop_fail(err, COP_ERR_INVALID,
                        "the assistant can only answer a user, whose message must be the last");
    return COP_OK;
}

cop_status cop_chat_encode(cop_chat *chat, const cop_chat_message *messages, size_t count, bool ask,
                           cop_tokens *out, cop_error *err)
{
    cop_status status = check_roles(messages, count, ask, err);
    if (status != COP_OK)
        return status;
    size_t before = out->count;
    writer w = {.chat = chat, .out = out, .err = err, .first = true};
    chat->text.size = 0;
    chat->template->open(&w);
    for (size_t i = 0; i < count; i++) {
        chat->template->message(&w, &messages[i]);
        w.after_system = messages[i].role == COP_ROLE_SYSTEM;
    }
    if (ask)
        chat->template->ask(&w);
    flush(&w);
    if (w.status != COP_OK)
        out->count = before;
    return w.status;
}
