/* Byte-pair encoding of one word: from its characters, the rule of the lowest rank is applied, the
 * leftmost first, until none applies (Sennrich et al. 2016). */
#ifndef COP_TOKENIZER_BPE_H
#define COP_TOKENIZER_BPE_H

#include "base/conversation.h"
#include "tokenizer/merges.h"

/* Merges ids[0 .. count) in place; returns how many are left. O(n^2) for a few, O(n log n) beyond:
 * a word can be as long as the text. */
size_t cop_bpe_merge(const cop_merges *merges, uint32_t *ids, size_t count);

#endif
