/* Sorted children of a prefix tree node: none, one kept inline, or an array.
 *
 * Order: token by token, unsigned; of two where one begins with the other, the shorter first. Among
 * siblings that never happens, but the sequences looked up may be prefixes of siblings, or the
 * other way round. In such an order the tokens in common with a sequence can only fall with the
 * distance from its place, so a neighbour of the place has the most. */
#include "core/prefix_tree_node.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

uint32_t cop_tokens_common(const uint32_t *a, const uint32_t *b, uint32_t count)
{
    uint32_t i = 0;
    for (; i + 2 <= count; i += 2) {
        uint64_t x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        if (x != y)
            break;
    }
    while (i < count && a[i] == b[i])
        i++;
    return i;
}

cop_tree_place cop_children_place(const cop_tree *tree, const cop_tree_node *node,
                                  const uint32_t *tokens, uint32_t count)
{
    cop_tree_place place = {.before = COP_NO_BLOCK, .after = COP_NO_BLOCK};
    const uint32_t *children = cop_tree_children(node);
    uint32_t end = node->child_count;
    while (place.index < end) {
        uint32_t middle = place.index + (end - place.index) / 2, child = children[middle];
        const uint32_t *theirs = cop_tree_tokens_of(tree, child);
        uint32_t their_count = tree->nodes[child].token_count;
        uint32_t shorter = count < their_count ? count : their_count;
        uint32_t common = cop_tokens_common(tokens, theirs, shorter);
        if (common < shorter ? theirs[common] < tokens[common] : their_count < count) {
            place.before = child;
            place.before_common = common;
            place.index = middle + 1;
        } else {
            place.after = child;
            place.after_common = common;
            end = middle;
        }
    }
    return place;
}

void cop_children_insert(cop_tree_node *node, uint32_t index, uint32_t child)
{
    uint32_t count = node->child_count++;
    if (count == 0) {
        node->children.only = child;
        return;
    }
    if (count == 1) {
        uint32_t only = node->children.only;
        node->children.many = NULL;
        COP_GROW(node->children.many, node->child_capacity, 2);
        node->children.many[0] = only;
    }
    COP_GROW(node->children.many, node->child_capacity, count + 1);
    uint32_t *place = node->children.many + index;
    memmove(place + 1, place, (count - index) * sizeof *place);
    *place = child;
}

void cop_children_replace(cop_tree_node *node, uint32_t index, uint32_t child)
{
    if (node->child_count == 1)
        node->children.only = child;
    else
        node->children.many[index] = child;
}

void cop_children_remove(cop_tree_node *node, uint32_t index)
{
    uint32_t count = --node->child_count;
    if (count == 0)
        return;
    uint32_t *many = node->children.many;
    memmove(many + index, many + index + 1, (count - index) * sizeof *many);
    if (count == 1) {
        node->children.only = many[0];
        node->child_capacity = 0;
        free(many);
    }
}

void cop_children_fini(cop_tree_node *node)
{
    if (node->child_count >= 2)
        free(node->children.many);
    node->child_count = node->child_capacity = 0;
}
