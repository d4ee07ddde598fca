#include "workload/session.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "workload/source.h"
#include "workload/text.h"

#include <math.h>
#include <stdlib.h>

/* Kinds of text and of random streams: two kinds never share a key. */
typedef enum { SYSTEM = 1, DOCUMENT, USER, ANSWER, SESSION, TURN } kind;

static uint64_t key_of(const cop_population *p, kind k, uint64_t a, uint64_t b)
{
    uint64_t key = cop_splitmix64(p->options.seed ^ (uint64_t)k << 56);
    return cop_splitmix64(cop_splitmix64(key ^ a) ^ b);
}

/* 1, 2, ... with the given mean, at most COP_SESSION_CUT times it. */
static uint32_t draw_geometric(cop_rng *rng, double mean)
{
    double u = cop_rng_double(rng);
    if (mean <= 1)
        return 1;
    double value = 1 + floor(log1p(-u) / log1p(-1 / mean)), cut = ceil(COP_SESSION_CUT * mean);
    return (uint32_t)(value < cut ? value : cut);
}

static cop_status check_counts(const cop_workload_options *o, cop_error *err)
{
    const struct {
        const char *key;
        uint32_t value, needed;
    } counts[] = {
        {"requests", o->requests, 1},
        {"system_tokens", o->system_tokens, o->system_prompts > 0},
        {"document_tokens", o->document_tokens, o->documents > 0},
        {"user_tokens", o->user_tokens, 1},
        {"output_tokens", o->output_tokens, 1},
        {"tenants", o->tenants, 1},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i].value < counts[i].needed)
            return cop_fail(err, COP_ERR_INVALID, "workload.%s is %u: it must be at least 1",
                            counts[i].key, counts[i].value);
    return COP_OK;
}

static cop_status check_ranges(const cop_workload_options *o, cop_error *err)
{
    const cop_option_range ranges[] = {
        {"system_zipf", o->system_zipf, 0, 100},
        {"document_share", o->document_share, 0, 1},
        {"turns", o->turns, 1, 1e6},
    };
    return cop_check_ranges(ranges, sizeof ranges / sizeof *ranges, err);
}

/* The longest session that can be drawn must fit: prompts are counted in 32 bits, and their tokens
 * are allocated. */
static cop_status check_longest(const cop_workload_options *o, cop_error *err)
{
    double per_turn = COP_SESSION_CUT * ((double)o->user_tokens + o->output_tokens);
    double longest =
        (double)o->system_tokens + o->document_tokens + per_turn * COP_SESSION_CUT * o->turns;
    if (longest > 0x1p30)
        return cop_fail(err, COP_ERR_INVALID,
                        "workload.turns %g times (workload.user_tokens %u + workload.output_tokens "
                        "%u) allows prompts of %.2g tokens: at most %.2g are possible",
                        o->turns, o->user_tokens, o->output_tokens, longest, 0x1p30);
    return COP_OK;
}

cop_status cop_population_check(const cop_workload_options *options, cop_error *err)
{
    cop_status status = check_counts(options, err);
    if (status == COP_OK)
        status = check_ranges(options, err);
    if (status == COP_OK)
        status = check_longest(options, err);
    return status;
}

void cop_population_init(cop_population *p, const cop_workload_options *options)
{
    uint32_t prompts = options->system_prompts;
    double sum = 0;
    *p = (cop_population){.options = *options};
    p->system_cumulative = cop_calloc(prompts, sizeof(double));
    for (uint32_t i = 0; i < prompts; i++)
        p->system_cumulative[i] = sum += pow(i + 1.0, -options->system_zipf);
    for (uint32_t i = 0; i < prompts; i++)
        p->system_cumulative[i] /= sum;
}

void cop_population_fini(cop_population *p)
{
    free(p->system_cumulative);
    *p = (cop_population){0};
}

/* First prompt with u < cumulative: binary search. */
static uint32_t pick_system(const cop_population *p, double u)
{
    uint32_t low = 0, high = p->options.system_prompts - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (u < p->system_cumulative[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Every draw is made whether its result is used or not, so that one option never shifts another's
 * numbers. */
void cop_session_draw(const cop_population *p, uint64_t index, cop_session *out)
{
    const cop_workload_options *o = &p->options;
    cop_rng rng;
    cop_rng_init(&rng, key_of(p, SESSION, index, 0), 0);
    double system = cop_rng_double(&rng), has_document = cop_rng_double(&rng);
    double document = cop_rng_double(&rng), tenant = cop_rng_double(&rng);
    *out = (cop_session){
        .index = index,
        .tenant = (uint64_t)(tenant * o->tenants),
        .system = o->system_prompts ? pick_system(p, system) : COP_NO_TEXT,
        .document = o->documents && has_document < o->document_share
                        ? (uint32_t)(document * o->documents)
                        : COP_NO_TEXT,
        .turns = draw_geometric(&rng, o->turns),
    };
}

void cop_turn_draw(const cop_population *p, uint64_t session, uint32_t turn, cop_turn *out)
{
    const cop_workload_options *o = &p->options;
    cop_rng rng;
    cop_rng_init(&rng, key_of(p, TURN, session, turn), 0);
    out->user_tokens = draw_geometric(&rng, o->user_tokens);
    out->answer_tokens = draw_geometric(&rng, o->output_tokens);
    if (o->max_output_tokens && out->answer_tokens > o->max_output_tokens)
        out->answer_tokens = o->max_output_tokens;
    out->think_s = cop_rng_exponential(&rng, o->think_s);
}

typedef struct {
    uint32_t *tokens, count;
    const cop_population *population;
} writer;

static void write_text(writer *w, kind k, uint64_t a, uint64_t b, uint32_t count)
{
    uint64_t key = key_of(w->population, k, a, b);
    cop_text_fill(w->tokens + w->count, count, key, w->population->options.vocab);
    w->count += count;
}

void cop_session_request(const cop_population *p, const cop_session *s, uint32_t turn,
                         cop_request *out)
{
    const cop_workload_options *o = &p->options;
    cop_turn *turns = cop_malloc((turn + 1) * sizeof *turns);
    size_t total = (s->system != COP_NO_TEXT ? (size_t)o->system_tokens : 0) +
                   (s->document != COP_NO_TEXT ? o->document_tokens : 0);
    for (uint32_t t = 0; t <= turn; t++) {
        cop_turn_draw(p, s->index, t, &turns[t]);
        total += turns[t].user_tokens + turns[t].answer_tokens;
    }
    writer w = {.tokens = cop_malloc(total * sizeof(uint32_t)), .population = p};
    if (s->system != COP_NO_TEXT)
        write_text(&w, SYSTEM, s->system, 0, o->system_tokens);
    if (s->document != COP_NO_TEXT)
        write_text(&w, DOCUMENT, s->document, 0, o->document_tokens);
    for (uint32_t t = 0; t <= turn; t++) {
        write_text(&w, USER, s->index, t, turns[t].user_tokens);
        write_text(&w, ANSWER, s->index, t, turns[t].answer_tokens);
    }
    *out = (cop_request){.session = s->index,
                         .tenant = s->tenant,
                         .turn = turn,
                         .prompt_tokens = w.count - turns[turn].answer_tokens,
                         .output_tokens = turns[turn].answer_tokens,
                         .output_given = true,
                         .tokens = w.tokens};
    free(turns);
}
