/* FIFO: the block inserted longest ago leaves first, used or not. As only leaves can leave, this is
 * the oldest leaf, and an old trunk stays as long as something younger hangs from it.
 *
 *     key = inserted_seq
 *
 * Source: SGLang's set of policies; the classical baseline. */
#include "core/evict/evict.h"

static cop_heap_key key(const cop_block_meta *block)
{
    return (cop_heap_key){.major = block->inserted_seq};
}

const cop_evict_ops cop_evict_fifo = {"fifo", "SGLang FIFO strategy", key};
