/* Conversations with text as a source: the file's, in its order, held when the schedule says. */
#include "workload/schedule.h"
#include "workload/sharegpt.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <stdlib.h>

typedef struct {
    cop_transcripts transcripts;
    uint64_t think_key;
    double think_s;
} library;

static uint32_t library_turns(const void *self, uint64_t session)
{
    const library *l = self;
    return cop_transcripts_turns(&l->transcripts, session);
}

/* Drawn from (seed, session, turn) alone, whenever it is asked for. */
static double library_think_s(const void *self, uint64_t session, uint32_t turn)
{
    const library *l = self;
    cop_rng rng;
    cop_rng_init(&rng, cop_splitmix64(l->think_key ^ session), turn);
    return cop_rng_exponential(&rng, l->think_s);
}

static void library_request(const void *self, uint64_t session, uint32_t turn, cop_request *request)
{
    const library *l = self;
    cop_transcripts_request(&l->transcripts, session, turn, request);
}

static void library_close(void *self)
{
    library *l = self;
    cop_transcripts_fini(&l->transcripts);
    free(l);
}

static const cop_sessions_ops library_ops = {.turns = library_turns,
                                             .think_s = library_think_s,
                                             .request = library_request,
                                             .close = library_close};

static uint32_t longest(const cop_transcripts *t)
{
    uint32_t most = 0;
    for (uint64_t i = 0; i < t->session_count; i++) {
        uint32_t turns = cop_transcripts_turns(t, i);
        most = turns > most ? turns : most;
    }
    return most;
}

static cop_status check_options(const cop_workload_options *o, cop_error *err)
{
    cop_sessions none = {0}; /* before a long file is read */
    if (!o->encoder)
        return cop_fail(err, COP_ERR_INVALID,
                        "workload.format sharegpt is text and needs a tokenizer: set "
                        "model.tokenizer, or model.path to a checkpoint that has one");
    if (o->scale != 1)
        return cop_fail(err, COP_ERR_INVALID,
                        "workload.scale is %u: text has no lengths to divide, it must be 1 for "
                        "workload.format sharegpt",
                        o->scale);
    return cop_schedule_check(o, &none, err);
}

static cop_status read_transcripts(cop_transcripts *out, const cop_workload_options *o,
                                   cop_error *err)
{
    cop_sharegpt *reader;
    cop_transcripts_options options = {.encoder = o->encoder,
                                       .vocab = o->vocab,
                                       .limit = o->limit,
                                       .max_output_tokens = o->max_output_tokens,
                                       .progress = o->progress,
                                       .progress_context = o->progress_context};
    cop_status status = cop_sharegpt_open(&reader, o->path, o->skip_bad_lines, err);
    if (status != COP_OK)
        return status;
    status = cop_transcripts_read(out, reader, &options, err);
    cop_sharegpt_close(reader);
    return status;
}

cop_status cop_sharegpt_source_open(cop_source *out, const cop_workload_options *o, cop_error *err)
{
    enum { THINK = 0x7468696e6b };
    cop_transcripts transcripts;
    cop_status status = check_options(o, err);
    if (status == COP_OK)
        status = read_transcripts(&transcripts, o, err);
    if (status != COP_OK)
        return status;
    cop_sessions sessions = {.ops = &library_ops,
                             .requests = transcripts.turn_count,
                             .sessions = transcripts.session_count,
                             .sessions_name = "sessions",
                             .longest_turns = longest(&transcripts)};
    status = cop_schedule_check(o, &sessions, err);
    if (status != COP_OK) {
        cop_transcripts_fini(&transcripts);
        return status;
    }
    library *l = cop_malloc(sizeof *l);
    *l = (library){transcripts, cop_splitmix64(o->seed ^ THINK), o->think_s};
    sessions.self = l;
    cop_schedule_open(out, o, &sessions);
    out->skipped = transcripts.counts.bad;
    return COP_OK;
}
