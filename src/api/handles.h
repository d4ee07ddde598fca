/* What the handles of coppice.h are made of; included by api/ alone. */
#ifndef COP_API_HANDLES_H
#define COP_API_HANDLES_H

#include "coppice.h"

#include "core/worker.h"
#include "device/device.h"
#include "model/weights.h"
#include "tokenizer/chat.h"
#include "tokenizer/tokenizer.h"

struct cop_model {
    cop_weights *weights;
    const cop_geometry *geometry; /* of the weights */
    const cop_device_ops *device_ops;
    char *name, *isa; /* isa NULL: auto */
    bool float32, int8_weights, deterministic;
    uint32_t device_index;
    uint32_t threads;
    char device[128]; /* description, once a cache was opened */
    uint64_t identity;
    bool identity_known;
    cop_tokenizer *tokenizer; /* NULL: no text */
    cop_chat *chat;           /* NULL: opened when first asked for */
};

struct cop_cache {
    cop_model *model; /* borrowed */
    cop_worker_options options;
    cop_device *device;
    cop_worker *worker;
    cop_worker_actions actions;
    uint64_t prompts, evicted_blocks;
    bool busy; /* a generation is under way: we are called from its callback */
};

/* ---- model.c ---- */

uint64_t cop_model_identity(cop_model *model); /* reads a checkpoint whole, the first time */

/* ---- cache.c ---- */

/* An empty prefix tree in place of one that a failed device left half-way. */
void cop_cache_reset(cop_cache *cache);
/* COP_ERR_INVALID if the cache is inside a generation. */
cop_status cop_cache_idle(const cop_cache *cache, cop_error *err);

/* ---- text.c ---- */

/* The tokenizer of a checkpoint folder, if it has one. */
cop_status cop_model_open_text(cop_model *model, const char *folder, cop_error *err);
void cop_model_close_text(cop_model *model);
bool cop_text_ends_answer(const cop_model *model, uint32_t token); /* by the chat template */

/* The text of one answer, token by token. */
typedef struct {
    const cop_tokenizer *tokenizer; /* NULL: every text is empty */
    cop_decoder decoder;
    char *text;
    size_t capacity;
} cop_answer;

void cop_answer_init(cop_answer *answer, const cop_model *model);
void cop_answer_fini(cop_answer *answer);
/* What `token` completes, zero-terminated, *bytes long; with the last token, all that is left.
 * Valid until the next call. */
const char *cop_answer_push(cop_answer *answer, uint32_t token, bool last, size_t *bytes);

#endif
