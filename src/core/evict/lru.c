/* LRU: the block whose last use is longest ago leaves first.
 *
 *     key = used_seq        (a block never used counts as used when it was inserted)
 *
 * A path is touched deepest first, so the least recent block of all is always a leaf, and plain
 * LRU over blocks respects the tree. Sources: SGLang's RadixAttention, vLLM's free queue. */
#include "core/evict/evict.h"

static cop_heap_key key(const cop_block_meta *block)
{
    return (cop_heap_key){.major = block->used_seq};
}

const cop_evict_ops cop_evict_lru = {"lru", "SGLang RadixAttention (arXiv 2312.07104)", key};
