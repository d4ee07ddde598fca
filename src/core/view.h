/* The router's view of the caches, kept late on purpose: what workers say of their blocks is held
 * here until it is due. First in, first out: all are delayed alike. */
#ifndef COP_CORE_VIEW_H
#define COP_CORE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t due_ns;
    uint64_t *hashes; /* u64[count], owned */
    uint32_t count, worker, used_blocks;
    bool inserted; /* or evicted */
} cop_report;

typedef struct {
    cop_report *reports; /* ring */
    size_t capacity, head, count;
} cop_view;

void cop_view_fini(cop_view *view); /* zero-initialise */

/* Copies the hashes. due_ns must not be before that of the last one. */
void cop_view_put(cop_view *view, const cop_report *report);

/* Oldest report if it is due: its hashes are then the caller's, to be freed. */
bool cop_view_take(cop_view *view, int64_t now_ns, cop_report *out);

void cop_view_check(const cop_view *view);

#endif
