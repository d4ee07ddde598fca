/* Inside the workload: what a source of requests (a trace, a generator) must do. workload.c owns
 * the requests that are out; a source knows only which come next. */
#ifndef COP_WORKLOAD_SOURCE_H
#define COP_WORKLOAD_SOURCE_H

#include "workload/workload.h"

typedef struct {
    bool (*due)(const void *source, int64_t *due_ns);
    /* Fills all but the id. request->tokens is transferred: allocated with cop_malloc. */
    void (*pop)(void *source, cop_request *request);
    /* NULL: nothing depends on answers. */
    void (*finished)(void *source, const cop_request *request, int64_t now_ns);
    void (*close)(void *source);
} cop_source_ops;

typedef struct {
    const cop_source_ops *ops;
    void *self; /* owned */
    uint64_t total, skipped;
} cop_source;

/* An option that must lie in [min, max]; an infinite bound is none. */
typedef struct {
    const char *key; /* without "workload." */
    double value, min, max;
} cop_option_range;

cop_status cop_check_ranges(const cop_option_range *ranges, size_t count, cop_error *err);

/* They take options that cop_workload_open has checked. */
cop_status cop_mooncake_source_open(cop_source *out, const cop_workload_options *options,
                                    cop_error *err);
cop_status cop_generator_open(cop_source *out, const cop_workload_options *options, cop_error *err);
cop_status cop_sharegpt_source_open(cop_source *out, const cop_workload_options *options,
                                    cop_error *err);

#endif
