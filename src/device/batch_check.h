/* What every device refuses in a batch, in the same words. */
#ifndef COP_DEVICE_BATCH_CHECK_H
#define COP_DEVICE_BATCH_CHECK_H

#include "device/device.h"

typedef struct {
    uint32_t vocab, max_context;        /* tokens */
    uint32_t blocks, block_tokens;      /* of the pool */
    uint32_t max_sequences, max_tokens; /* of one batch */
} cop_batch_limits;

/* COP_ERR_INVALID: empty, too many sequences or tokens, a context beyond the model's or the pool's
 * end, a token or block that does not exist. */
cop_status cop_batch_check(const cop_batch_limits *limits, const cop_batch *batch, cop_error *err);

#endif
