/* Memory. Small bookkeeping allocations never return NULL: they stop the program with a message
 * when the system has none left, as no caller could go on. Anything whose size comes from a user
 * or a file (weights, KV pools, traces) uses cop_alloc_large, which can fail. */
#ifndef COP_BASE_ALLOC_H
#define COP_BASE_ALLOC_H

#include "base/status.h"

#include <stddef.h>

void *cop_malloc(size_t bytes);
void *cop_calloc(size_t count, size_t size); /* zeroed; checks count * size for overflow */
void *cop_realloc(void *p, size_t bytes);
char *cop_strdup(const char *s);
char *cop_strndup(const char *s, size_t n);

/* Zeroed, 64-byte aligned (2 MiB and MADV_HUGEPAGE from 4 MiB up, worth about 10 % of read
 * bandwidth); owned by the caller, released by cop_free_large with the same size. */
cop_status cop_alloc_large(void **out, size_t bytes, const char *what, cop_error *err);
void cop_free_large(void *p, size_t bytes);

/* Grows array `p` of `*cap` elements so that index `need - 1` exists; amortised doubling. */
#define COP_GROW(p, cap, need)                            \
    do {                                                  \
        if ((size_t)(need) > (size_t)(cap)) {             \
            size_t cop_n_ = (cap) ? (size_t)(cap)*2 : 16; \
            while (cop_n_ < (size_t)(need))               \
                cop_n_ *= 2;                              \
            (p) = cop_realloc((p), cop_n_ * sizeof *(p)); \
            (cap) = cop_n_;                               \
        }                                                 \
    } while (0)

#endif
