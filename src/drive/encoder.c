#include "drive/encoder.h"

#include "base/alloc.h"
#include "drive/setup.h"
#include "model/checkpoint.h"

#include <stdlib.h>

struct cop_encoder {
    cop_tokenizer *tokenizer;
    cop_chat *chat;
    cop_text_encoder ops;
    char *path;
};

static cop_status encode_text(void *self, const char *text, size_t bytes, cop_tokens *out,
                              cop_error *err)
{
    cop_encoder *e = self;
    return cop_tokenizer_encode(e->tokenizer, text, bytes, 0, out, err);
}

static cop_status encode_chat(void *self, const cop_chat_message *messages, size_t count, bool ask,
                              cop_tokens *out, cop_error *err)
{
    cop_encoder *e = self;
    return cop_chat_encode(e->chat, messages, count, ask, out, err);
}

static const char *template_name(const cop_config *cfg, const cop_weights *weights)
{
    const cop_checkpoint *checkpoint = weights ? cop_weights_checkpoint(weights) : NULL;
    if (cfg->model_chat[0])
        return cfg->model_chat;
    return checkpoint ? cop_checkpoint_family(checkpoint) : "chatml";
}

cop_status cop_encoder_check(const cop_tokenizer *tokenizer, const char *path,
                             const cop_weights *weights, cop_error *err)
{
    uint32_t tokens = cop_tokenizer_size(tokenizer);
    const cop_geometry *g = cop_weights_geometry(weights);
    if (tokens <= g->vocab)
        return COP_OK;
    const char *model = cop_weights_path(weights);
    return cop_fail(err, COP_ERR_INVALID,
                    "%s: its %u tokens do not fit the vocabulary of %u of %s: it is another "
                    "model's tokenizer",
                    path, tokens, g->vocab, model ? model : g->name);
}

cop_status cop_encoder_open(cop_encoder **out, const cop_config *cfg, const cop_weights *weights,
                            cop_error *err)
{
    const char *path = cop_setup_tokenizer(cfg);
    if (!path[0])
        return cop_fail(err, COP_ERR_INVALID,
                        "text needs a tokenizer: set model.tokenizer to a tokenizer.json, or "
                        "model.path to a checkpoint that has one");
    cop_encoder *e = cop_calloc(1, sizeof *e);
    e->path = cop_strdup(path);
    e->ops = (cop_text_encoder){.text = encode_text, .chat = encode_chat, .self = e};
    cop_status status = cop_tokenizer_open(&e->tokenizer, path, err);
    if (status == COP_OK && weights)
        status = cop_encoder_check(e->tokenizer, path, weights, err);
    if (status == COP_OK)
        status = cop_chat_open(&e->chat, template_name(cfg, weights), e->tokenizer, err);
    if (status != COP_OK) {
        cop_encoder_close(e);
        return status;
    }
    *out = e;
    return COP_OK;
}

void cop_encoder_close(cop_encoder *e)
{
    if (!e)
        return;
    if (e->chat)
        cop_chat_close(e->chat);
    cop_tokenizer_close(e->tokenizer);
    free(e->path);
    free(e);
}

const cop_text_encoder *cop_encoder_ops(const cop_encoder *e)
{
    return &e->ops;
}

const char *cop_encoder_path(const cop_encoder *e)
{
    return e->path;
}

const char *cop_encoder_template(const cop_encoder *e)
{
    return cop_chat_name(e->chat);
}

uint32_t cop_encoder_vocab(const cop_encoder *e)
{
    return cop_tokenizer_size(e->tokenizer);
}
