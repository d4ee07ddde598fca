/* Added tokens: texts that are cut out before anything else looks at them. The leftmost is taken,
 * and of those that begin at the same place the longest, as Hugging Face `tokenizers` does.
 *
 * One difference: white space that a token took from behind it is taken. Hugging Face looks for all
 * tokens first, so that one which begins with that space ("<r>" that strips, then " a") is found as
 * well, and the space counts twice. */
#ifndef COP_TOKENIZER_ADDED_H
#define COP_TOKENIZER_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COP_ADDED_LSTRIP = 1,     /* takes the white space before it */
    COP_ADDED_RSTRIP = 2,     /* and after it */
    COP_ADDED_SINGLE_WORD = 4 /* not beside a letter, number or '_' */
};

/* Bytes. A search may read this much at every byte of a text before it finds that nothing matches. */
enum { COP_ADDED_LONGEST = 1024 };

/* A trie: children of a node are a list. */
typedef struct {
    uint32_t child, next; /* node, 0: none */
    uint32_t id;          /* token that ends here, or COP_NO_TOKEN */
    uint8_t byte, flags;
} cop_added_node;

typedef struct {
    cop_added_node *nodes; /* [0]: the root */
    size_t count, capacity;
    bool first[256]; /* bytes that some token begins with */
} cop_added;         /* zero-initialise */

void cop_added_fini(cop_added *added);
/* Of one text put twice the later counts; an empty one is ignored. bytes <= COP_ADDED_LONGEST. */
void cop_added_put(cop_added *added, const char *text, size_t bytes, uint32_t id, uint8_t flags);

typedef struct {
    size_t begin, end;
    uint32_t id;
} cop_added_hit;

/* The first in text[from ..], with the space that it strips. */
bool cop_added_find(const cop_added *added, const char *text, size_t bytes, size_t from,
                    cop_added_hit *hit);

#endif
