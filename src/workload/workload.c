#include "workload/source.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/map.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cop_workload {
    cop_source source;
    uint64_t popped;
    cop_request **out; /* requests popped and not finished; owned, their tokens too */
    size_t out_capacity;
    uint32_t *free_slots; /* of `out`; as many as out_capacity, `free_count` in use */
    size_t free_count;
    cop_map slots; /* request id -> index in `out` */
};

cop_status cop_check_ranges(const cop_option_range *ranges, size_t count, cop_error *err)
{
    for (const cop_option_range *r = ranges; r < ranges + count; r++)
        if (!(r->value >= r->min && r->value <= r->max))
            return cop_fail(err, COP_ERR_INVALID, "workload.%s is %g: it must be from %g to %g",
                            r->key, r->value, r->min, r->max);
    return COP_OK;
}

static cop_status check_options(const cop_workload_options *o, cop_error *err)
{
    if (o->vocab == 0)
        return cop_fail(err, COP_ERR_INVALID, "a workload needs a vocabulary of at least 1 token");
    if (!(o->speedup > 0) || !isfinite(o->speedup))
        return cop_fail(err, COP_ERR_INVALID, "workload.speedup is %g: it must be above 0",
                        o->speedup);
    return COP_OK;
}

cop_status cop_workload_open(cop_workload **out, const cop_workload_options *options,
                             cop_error *err)
{
    enum { COUNT = 3 };
    static const char *const names[COUNT] = {"generator", "mooncake", "sharegpt"};
    static cop_status (*const opens[COUNT])(cop_source *, const cop_workload_options *,
                                            cop_error *) = {
        cop_generator_open, cop_mooncake_source_open, cop_sharegpt_source_open};
    cop_source source = {0};
    size_t format;
    cop_status status = check_options(options, err);
    if (status != COP_OK)
        return status;
    status = cop_find_name(options->format, names, COUNT, "unknown workload.format", &format, err);
    if (status == COP_OK)
        status = opens[format](&source, options, err);
    if (status != COP_OK)
        return status;
    cop_workload *w = cop_calloc(1, sizeof *w);
    w->source = source;
    cop_map_init(&w->slots);
    *out = w;
    return COP_OK;
}

static void request_free(cop_request *request)
{
    if (request)
        free((void *)request->tokens);
    free(request);
}

void cop_workload_close(cop_workload *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->out_capacity; i++)
        request_free(w->out[i]);
    free(w->out);
    free(w->free_slots);
    cop_map_fini(&w->slots);
    w->source.ops->close(w->source.self);
    free(w);
}

uint64_t cop_workload_total(const cop_workload *w)
{
    return w->source.total;
}

uint64_t cop_workload_skipped(const cop_workload *w)
{
    return w->source.skipped;
}

bool cop_workload_due(const cop_workload *w, int64_t *due_ns)
{
    return w->source.ops->due(w->source.self, due_ns);
}

static uint32_t take_slot(cop_workload *w)
{
    if (w->free_count == 0) {
        size_t old = w->out_capacity;
        COP_GROW(w->out, w->out_capacity, old + 1);
        w->free_slots = cop_realloc(w->free_slots, w->out_capacity * sizeof *w->free_slots);
        for (size_t i = w->out_capacity; i-- > old;) {
            w->out[i] = NULL;
            w->free_slots[w->free_count++] = (uint32_t)i;
        }
    }
    return w->free_slots[--w->free_count];
}

const cop_request *cop_workload_pop(cop_workload *w)
{
    int64_t due_ns;
    COP_CHECK(cop_workload_due(w, &due_ns));
    uint32_t slot = take_slot(w);
    cop_request *request = cop_calloc(1, sizeof *request);
    w->source.ops->pop(w->source.self, request);
    request->id = w->popped++;
    w->out[slot] = request;
    cop_map_put(&w->slots, request->id, slot);
    return request;
}

void cop_workload_finished(cop_workload *w, uint64_t id, int64_t now_ns)
{
    uint32_t *found = cop_map_get(&w->slots, id);
    COP_CHECK(found != NULL);
    uint32_t slot = *found;
    if (w->source.ops->finished)
        w->source.ops->finished(w->source.self, w->out[slot], now_ns);
    request_free(w->out[slot]);
    w->out[slot] = NULL;
    w->free_slots[w->free_count++] = slot;
    cop_map_remove(&w->slots, id);
}

bool cop_workload_done(const cop_workload *w)
{
    return w->popped == w->source.total && w->slots.count == 0;
}
