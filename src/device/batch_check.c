#include "device/batch_check.h"

static cop_status check_sequence(const cop_batch_limits *l, uint32_t index, const cop_sequence *s,
                                 cop_error *err)
{
    const uint64_t end = (uint64_t)s->start + s->count;
    if (s->count == 0)
        return cop_fail(err, COP_ERR_INVALID, "sequence %u of the batch is empty", index);
    if (end > l->max_context)
        return cop_fail(err, COP_ERR_INVALID,
                        "sequence %u of the batch ends at token %llu; this model and KV pool hold "
                        "%u",
                        index, (unsigned long long)end, l->max_context);
    for (uint32_t i = 0; i < s->count; i++)
        if (s->tokens[i] >= l->vocab)
            return cop_fail(err, COP_ERR_INVALID,
                            "sequence %u of the batch: token %u is not in the vocabulary of %u",
                            index, s->tokens[i], l->vocab);
    for (uint64_t i = 0; i * l->block_tokens < end; i++)
        if (s->blocks[i] >= l->blocks)
            return cop_fail(err, COP_ERR_INVALID,
                            "sequence %u of the batch: block %u is not in the pool of %u", index,
                            s->blocks[i], l->blocks);
    return COP_OK;
}

cop_status cop_batch_check(const cop_batch_limits *l, const cop_batch *batch, cop_error *err)
{
    uint64_t tokens = 0;
    if (batch->count == 0 || batch->count > l->max_sequences)
        return cop_fail(err, COP_ERR_INVALID, "a batch of %u sequences; this device takes 1 to %u",
                        batch->count, l->max_sequences);
    for (uint32_t i = 0; i < batch->count; i++) {
        cop_status status = check_sequence(l, i, &batch->sequences[i], err);
        if (status != COP_OK)
            return status;
        tokens += batch->sequences[i].count;
    }
    if (tokens > l->max_tokens)
        return cop_fail(err, COP_ERR_INVALID, "a batch of %llu tokens; this device takes %u",
                        (unsigned long long)tokens, l->max_tokens);
    return COP_OK;
}
