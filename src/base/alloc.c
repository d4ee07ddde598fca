#include "base/alloc.h"

#include "base/check.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *alloc_or_stop(void *p, size_t bytes)
{
    if (!p && bytes) {
        fprintf(stderr, "coppice: out of memory (%zu bytes)\n", bytes);
        abort();
    }
    return p;
}

void *cop_malloc(size_t bytes)
{
    return alloc_or_stop(malloc(bytes ? bytes : 1), bytes);
}

void *cop_calloc(size_t count, size_t size)
{
    return alloc_or_stop(calloc(count ? count : 1, size ? size : 1), count * size);
}

void *cop_realloc(void *p, size_t bytes)
{
    return alloc_or_stop(realloc(p, bytes ? bytes : 1), bytes);
}

char *cop_strdup(const char *s)
{
    return cop_strndup(s, strlen(s));
}

char *cop_strndup(const char *s, size_t n)
{
    char *copy = cop_malloc(n + 1);
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

/* Anonymous maps are zeroed and page-aligned; large ones are over-mapped to a 2 MiB boundary. */
static const size_t huge_page = (size_t)2 << 20;

static size_t large_span(size_t bytes)
{
    return bytes < 2 * huge_page ? bytes : (bytes + huge_page - 1) / huge_page * huge_page;
}

cop_status cop_alloc_large(void **out, size_t bytes, const char *what, cop_error *err)
{
    size_t span = large_span(bytes ? bytes : 1);
    size_t slack = span >= 2 * huge_page ? huge_page : 0;
    char *map = span + slack < span ? MAP_FAILED
                                    : mmap(NULL, span + slack, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return cop_fail(err, COP_ERR_NO_MEMORY, "cannot allocate %.1f MiB for %s",
                        (double)bytes / (1 << 20), what);
    if (slack) {
        size_t skip = (huge_page - (uintptr_t)map % huge_page) % huge_page;
        if (skip)
            munmap(map, skip);
        if (slack - skip)
            munmap(map + skip + span, slack - skip);
        map += skip;
        madvise(map, span, MADV_HUGEPAGE);
    }
    *out = map;
    return COP_OK;
}

void cop_free_large(void *p, size_t bytes)
{
    if (p)
        munmap(p, large_span(bytes ? bytes : 1));
}
