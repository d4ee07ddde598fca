/* Made-up text: tokens that a key determines, so that no text is ever stored. */
#ifndef COP_WORKLOAD_TEXT_H
#define COP_WORKLOAD_TEXT_H

#include "base/rng.h"

#include <stdint.h>

/* tokens: u32[count], each in [0, vocab); token i depends on (key, i) alone. */
void cop_text_fill(uint32_t *tokens, uint32_t count, uint64_t key, uint32_t vocab);

#endif
