/* A Mooncake trace as a source: rows in file order, at their times, tokens made when popped.
 * The format knows no sessions: each request is one of its own. Answers are not given. */
#include "workload/mooncake.h"
#include "workload/source.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    cop_mooncake trace;
    uint32_t scale, vocab, max_output_tokens;
    double speedup;
    size_t next;
} replay;

static int64_t scheduled_ns(const replay *r, size_t i)
{
    int64_t gap_ms = r->trace.rows[i].timestamp_ms - r->trace.rows[0].timestamp_ms;
    return llround((double)gap_ms * COP_NS_PER_MS / r->speedup);
}

static bool replay_due(const void *source, int64_t *due_ns)
{
    const replay *r = source;
    if (r->next == r->trace.row_count)
        return false;
    *due_ns = scheduled_ns(r, r->next);
    return true;
}

static uint32_t scaled_output(const replay *r, const cop_mooncake_row *row)
{
    uint32_t tokens = row->output_length / r->scale;
    if (tokens == 0)
        tokens = 1;
    return r->max_output_tokens && tokens > r->max_output_tokens ? r->max_output_tokens : tokens;
}

static void replay_pop(void *source, cop_request *request)
{
    replay *r = source;
    const cop_mooncake_row *row = &r->trace.rows[r->next];
    uint32_t *tokens = cop_malloc(((size_t)row->input_length / r->scale + 1) * sizeof *tokens);
    *request = (cop_request){.session = r->next,
                             .output_tokens = scaled_output(r, row),
                             .tokens = tokens,
                             .scheduled_ns = scheduled_ns(r, r->next)};
    cop_mooncake_tokens(&r->trace, row, r->scale, r->vocab, tokens, &request->prompt_tokens);
    r->next++;
}

static void replay_close(void *source)
{
    replay *r = source;
    cop_mooncake_fini(&r->trace);
    free(r);
}

static const cop_source_ops replay_ops = {
    .due = replay_due, .pop = replay_pop, .close = replay_close};

cop_status cop_mooncake_source_open(cop_source *out, const cop_workload_options *o, cop_error *err)
{
    if (o->scale == 0 || COP_MOONCAKE_BLOCK % o->scale)
        return cop_fail(err, COP_ERR_INVALID,
                        "workload.scale is %u: it must divide %d, the tokens of a Mooncake block",
                        o->scale, COP_MOONCAKE_BLOCK);
    cop_mooncake trace;
    cop_status status = cop_mooncake_read(&trace, o->path, o->limit, o->skip_bad_lines, err);
    if (status != COP_OK)
        return status;
    int64_t span_ms = trace.rows[trace.row_count - 1].timestamp_ms - trace.rows[0].timestamp_ms;
    if ((double)span_ms * COP_NS_PER_MS / o->speedup > 0x1p62) {
        cop_mooncake_fini(&trace);
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: its %.3g s at workload.speedup %g end after 146 years", o->path,
                        (double)span_ms / 1e3, o->speedup);
    }
    replay *r = cop_malloc(sizeof *r);
    *r = (replay){trace, o->scale, o->vocab, o->max_output_tokens, o->speedup, 0};
    *out = (cop_source){&replay_ops, r, trace.row_count, trace.skipped};
    return COP_OK;
}
