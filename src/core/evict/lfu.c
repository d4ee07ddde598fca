/* LFU: the block with the fewest uses leaves first; of equals the one used longest ago.
 *
 *     key = (uses, used_seq)
 *
 * A use of a path counts for every block on it, so counts never rise with depth (SGLang issue 18843
 * is what happens otherwise), and of equal blocks on one path the deeper has the lower number. */
#include "core/evict/evict.h"

static cop_heap_key key(const cop_block_meta *block)
{
    return (cop_heap_key){.major = block->uses, .minor = block->used_seq};
}

const cop_evict_ops cop_evict_lfu = {"lfu", "SGLang LFU strategy", key};
