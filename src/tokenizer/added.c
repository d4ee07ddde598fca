#include "tokenizer/added.h"

#include "base/alloc.h"
#include "base/request.h"
#include "tokenizer/utf8.h"

#include <utf8proc.h>

#include <stdlib.h>

void cop_added_fini(cop_added *added)
{
    free(added->nodes);
    *added = (cop_added){0};
}

static uint32_t new_node(cop_added *added, uint8_t byte)
{
    COP_GROW(added->nodes, added->capacity, added->count + 1);
    added->nodes[added->count] = (cop_added_node){.id = COP_NO_TOKEN, .byte = byte};
    return (uint32_t)added->count++;
}

static uint32_t child_of(const cop_added *added, uint32_t node, uint8_t byte)
{
    uint32_t child = added->nodes[node].child;
    while (child && added->nodes[child].byte != byte)
        child = added->nodes[child].next;
    return child;
}

void cop_added_put(cop_added *added, const char *text, size_t bytes, uint32_t id, uint8_t flags)
{
    if (bytes == 0)
        return;
    if (added->count == 0)
        new_node(added, 0);
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint32_t child = child_of(added, node, (uint8_t)text[i]);
        if (!child) {
            child = new_node(added, (uint8_t)text[i]);
            added->nodes[child].next = added->nodes[node].child;
            added->nodes[node].child = child;
        }
        node = child;
    }
    added->nodes[node].id = id;
    added->nodes[node].flags = flags;
    added->first[(uint8_t)text[0]] = true;
}

/* The longest token that text begins with: its node, 0 if none. */
static uint32_t longest(const cop_added *added, const char *text, size_t bytes, size_t *length)
{
    uint32_t node = 0, found = 0;
    for (size_t i = 0; i < bytes; i++) {
        node = child_of(added, node, (uint8_t)text[i]);
        if (!node)
            break;
        if (added->nodes[node].id != COP_NO_TOKEN) {
            found = node;
            *length = i + 1;
        }
    }
    return found;
}

/* Code point that ends at `at`; at > 0. */
static uint32_t code_before(const char *text, size_t at, size_t *length)
{
    size_t start = at - 1, ignored;
    while (start > 0 && ((uint8_t)text[start] & 0xc0) == 0x80)
        start--;
    *length = at - start;
    return cop_utf8_decode((const uint8_t *)text + start, &ignored);
}

/* \w: letters, marks, decimal digits, letter numbers, connectors. */
static bool is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* alphabetic symbols (circled letters), and the joiners */
        return (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
               (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189) ||
               code == 0x200c || code == 0x200d;
    }
}

static bool stands_alone(const char *text, size_t bytes, size_t begin, size_t end)
{
    size_t length;
    return (begin == 0 || !is_word(code_before(text, begin, &length))) &&
           (end == bytes || !is_word(cop_utf8_decode((const uint8_t *)text + end, &length)));
}

static void strip(const char *text, size_t bytes, size_t from, uint8_t flags, cop_added_hit *hit)
{
    size_t length;
    while (flags & COP_ADDED_LSTRIP && hit->begin > from &&
           cop_utf8_is_space(code_before(text, hit->begin, &length)))
        hit->begin -= length;
    while (flags & COP_ADDED_RSTRIP && hit->end < bytes &&
           cop_utf8_is_space(cop_utf8_decode((const uint8_t *)text + hit->end, &length)))
        hit->end += length;
}

bool cop_added_find(const cop_added *added, const char *text, size_t bytes, size_t from,
                    cop_added_hit *hit)
{
    if (added->count == 0)
        return false;
    for (size_t at = from; at < bytes; at++) {
        size_t length = 0;
        if (!added->first[(uint8_t)text[at]])
            continue;
        uint32_t node = longest(added, text + at, bytes - at, &length);
        if (!node)
            continue;
        const cop_added_node *token = &added->nodes[node];
        if (token->flags & COP_ADDED_SINGLE_WORD && !stands_alone(text, bytes, at, at + length)) {
            at += length - 1; /* a match all the same: nothing inside it is looked at */
            continue;
        }
        *hit = (cop_added_hit){.begin = at, .end = at + length, .id = token->id};
        strip(text, bytes, from, token->flags, hit);
        return true;
    }
    return false;
}
