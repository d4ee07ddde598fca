#include "drive/text.h"

#include "base/alloc.h"
#include "model/checkpoint.h"

#include <stdlib.h>

struct cop_text {
    cop_tokenizer *tokenizer;
    cop_chat *chat;
    cop_text_encoder encoder;
    char *path;
};

static cop_status encode_text(void *self, const char *text, size_t bytes, cop_tokens *out,
                              cop_error *err)
{
    cop_text *t = self;
    return cop_tokenizer_encode(t->tokenizer, text, bytes, 0, out, err);
}

static cop_status encode_chat(void *self, const cop_chat_message *messages, size_t count, bool ask,
                              cop_tokens *out, cop_error *err)
{
    cop_text *t = self;
    return cop_chat_encode(t->chat, messages, count, ask, out, err);
}

static const char *template_name(const cop_config *cfg, const cop_weights *weights)
{
    const cop_checkpoint *checkpoint = weights ? cop_weights_checkpoint(weights) : NULL;
    if (cfg->model_chat[0])
        return cfg->model_chat;
    return checkpoint ? cop_checkpoint_family(checkpoint) : "chatml";
}

static cop_status check_vocabulary(const cop_text *t, const cop_weights *weights, cop_error *err)
{
    if (!weights)
        return COP_OK;
    uint32_t tokens = cop_tokenizer_size(t->tokenizer);
    const cop_geometry *g = cop_weights_geometry(weights);
    if (tokens <= g->vocab)
        return COP_OK;
    const char *model = cop_weights_path(weights);
    return cop_fail(err, COP_ERR_INVALID,
                    "%s: its %u tokens do not fit the vocabulary of %u of %s: it is another "
                    "model's tokenizer",
                    t->path, tokens, g->vocab, model ? model : g->name);
}

cop_status cop_text_open(cop_text **out, const cop_config *cfg, const cop_weights *weights,
                         cop_error *err)
{
    const char *path = cfg->model_tokenizer[0] ? cfg->model_tokenizer : cfg->model_path;
    if (!path[0])
        return cop_fail(err, COP_ERR_INVALID,
                        "text needs a tokenizer: set model.tokenizer to a tokenizer.json, or "
                        "model.path to a checkpoint that has one");
    cop_text *t = cop_calloc(1, sizeof *t);
    t->path = cop_strdup(path);
    t->encoder = (cop_text_encoder){.text = encode_text, .chat = encode_chat, .self = t};
    cop_status status = cop_tokenizer_open(&t->tokenizer, path, err);
    if (status == COP_OK)
        status = check_vocabulary(t, weights, err);
    if (status == COP_OK)
        status = cop_chat_open(&t->chat, template_name(cfg, weights), t->tokenizer, err);
    if (status != COP_OK) {
        cop_text_close(t);
        return status;
    }
    *out = t;
    return COP_OK;
}

void cop_text_close(cop_text *t)
{
    if (!t)
        return;
    if (t->chat)
        cop_chat_close(t->chat);
    cop_tokenizer_close(t->tokenizer);
    free(t->path);
    free(t);
}

const cop_text_encoder *cop_text_encoder_of(const cop_text *t)
{
    return &t->encoder;
}

const char *cop_text_path(const cop_text *t)
{
    return t->path;
}

const char *cop_text_template(const cop_text *t)
{
    return cop_chat_name(t->chat);
}

uint32_t cop_text_vocab(const cop_text *t)
{
    return cop_tokenizer_size(t->tokenizer);
}
