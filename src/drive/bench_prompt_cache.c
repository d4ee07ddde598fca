/* `coppice bench prompt_cache`: what the cache is for. bench.users users ask the model under the
 * same system prompt; each adds bench.suffix_tokens tokens of their own. Cold: the whole prompt is
 * computed. Hit: the system prompt comes from the cache. Each hit is measured right after its cold
 * twin, so that a noisy neighbour meets both, and must give the same bits of logits (on a GPU:
 * where device.deterministic promises that).
 *
 *     tokens    tokens cold / tokens computed on a hit
 *     bound     operations cold / operations of a hit: linear layers of the computed tokens, their
 *               attention over all tokens before them, the head for one row
 *     reading   TTFT cold / time of a step of one token, which hardly does more than to read every
 *               weight once, as a hit must too, however few tokens it computes
 *
 * Prints medians over users and bench.repeats. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/median.h"
#include "base/rng.h"
#include "drive/bench.h"
#include "drive/setup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SHORTEST = 64, STEPS = 8 };

typedef struct {
    cop_model *model;
    cop_cache *cache;
    cop_model_info info;
    uint32_t longest, suffix, users, repeats; /* longest: tokens of a system prompt */
    cop_rng rng;
    uint32_t *prompt;                   /* u32[longest + suffix] */
    double *cold_ms, *hit_ms, *speedup; /* [users * repeats] */
    double step_ms;                     /* of one token */
    bool exact;                         /* reuse gives the same bits */
    FILE *csv;                          /* NULL: none */
} bench;

/* Of one system prompt: medians. */
typedef struct {
    uint32_t system, prompt;
    double cold_ms, hit_ms, speedup, tokens, bound, reading;
} row;

static void draw(bench *b, uint32_t *tokens, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)cop_rng_below(&b->rng, b->info.vocab);
}

static cop_status first_token(bench *b, uint32_t count, bool no_cache, cop_generate_result *out,
                              cop_error *err)
{
    cop_generate_options options = {
        .tokens = b->prompt, .count = count, .max_new_tokens = 1, .no_cache = no_cache};
    return cop_generate(b->cache, &options, NULL, NULL, out, err);
}

/* A step of one token, after a prompt as short as they get. */
static cop_status measure_step(bench *b, cop_error *err)
{
    uint32_t count = b->longest < SHORTEST ? b->longest : SHORTEST;
    cop_generate_options options = {.tokens = b->prompt,
                                    .count = count,
                                    .max_new_tokens = STEPS + 1,
                                    .ignore_stops = true,
                                    .no_cache = true};
    double *ms = cop_calloc(b->repeats, sizeof *ms);
    cop_status status = COP_OK;
    draw(b, b->prompt, count);
    for (uint32_t i = 0; i < b->repeats && status == COP_OK; i++) {
        cop_generate_result r = {0};
        status = cop_generate(b->cache, &options, NULL, NULL, &r, err);
        ms[i] = (double)(r.total_ns - r.ttft_ns) / STEPS / COP_NS_PER_MS;
    }
    b->step_ms = cop_median(ms, b->repeats);
    free(ms);
    return status;
}

/* One user: cold, then the system part from the cache. Leaves the cache as it was. */
static cop_status measure_user(bench *b, uint32_t system, size_t at, cop_error *err)
{
    cop_generate_result cold, hit;
    draw(b, b->prompt + system, b->suffix);
    cop_status status = first_token(b, system + b->suffix, true, &cold, err);
    if (status == COP_OK)
        status = first_token(b, system + b->suffix, false, &hit, err);
    if (status != COP_OK)
        return status;
    cop_cache_truncate(b->cache, b->prompt, system);
    if (hit.cached_tokens != system)
        return cop_fail(err, COP_ERR_DEVICE, "%u of %u tokens were found in the cache",
                        hit.cached_tokens, system);
    if (b->exact && hit.logits_hash != cold.logits_hash)
        return cop_fail(err, COP_ERR_DEVICE,
                        "system prompt of %u tokens: logits with the cache differ from those "
                        "without",
                        system);
    b->cold_ms[at] = (double)cold.ttft_ns / COP_NS_PER_MS;
    b->hit_ms[at] = (double)hit.ttft_ns / COP_NS_PER_MS;
    b->speedup[at] = b->cold_ms[at] / b->hit_ms[at];
    return COP_OK;
}

static cop_status measure(bench *b, uint32_t system, row *out, cop_error *err)
{
    size_t runs = (size_t)b->users * b->repeats;
    cop_cache_truncate(b->cache, NULL, 0);
    draw(b, b->prompt, system);
    cop_status status = cop_cache_insert(b->cache, b->prompt, system, NULL, err);
    for (size_t i = 0; i < runs && status == COP_OK; i++)
        status = measure_user(b, system, i, err);
    if (status != COP_OK)
        return status;
    *out = (row){
        .system = system,
        .prompt = system + b->suffix,
        .cold_ms = cop_median(b->cold_ms, runs),
        .hit_ms = cop_median(b->hit_ms, runs),
        .speedup = cop_median(b->speedup, runs),
        .tokens = (double)(system + b->suffix) / b->suffix,
        .bound = cop_model_work(b->model, 0, system + b->suffix) /
                 cop_model_work(b->model, system, b->suffix),
    };
    out->reading = out->cold_ms / b->step_ms;
    return COP_OK;
}

static void print_head(const bench *b, FILE *out)
{
    fprintf(out,
            "%s, %s: %u users, own part of %u tokens, medians of %u; a step of one token takes "
            "%.2f ms\n",
            b->info.name, b->info.device, b->users, b->suffix, b->users * b->repeats, b->step_ms);
    fprintf(out, "%8s %8s %10s %9s %9s %9s %9s %10s %9s\n", "system", "prompt", "cold ms", "hit ms",
            "speed-up", "tokens", "bound", "% of bound", "reading");
    if (b->csv)
        fprintf(b->csv, "model,device,users,repeats,system_tokens,prompt_tokens,computed_tokens,"
                        "cold_ms,hit_ms,speedup,token_ratio,bound,reading_bound,step_ms\n");
}

static void print_row(const bench *b, const row *r, FILE *out)
{
    fprintf(out, "%8u %8u %10.2f %9.2f %9.1f %9.1f %9.1f %10.1f %9.1f\n", r->system, r->prompt,
            r->cold_ms, r->hit_ms, r->speedup, r->tokens, r->bound, 100 * r->speedup / r->bound,
            r->reading);
    fflush(out); /* long prompts take their time */
    if (b->csv)
        fprintf(b->csv, "\"%s\",\"%s\",%u,%u,%u,%u,%u,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f\n",
                b->info.name, b->info.device, b->users, b->repeats, r->system, r->prompt, b->suffix,
                r->cold_ms, r->hit_ms, r->speedup, r->tokens, r->bound, r->reading, b->step_ms);
}

/* The cache holds a system prompt and one user, beside the twin that does not use it. */
static cop_status open_library(bench *b, const cop_config *cfg, cop_error *err)
{
    cop_model_options model;
    cop_cache_options cache;
    cop_status status = cop_setup_library(&model, &cache, cfg, err);
    if (status == COP_OK)
        status = cop_model_open(&b->model, &model, err);
    if (status != COP_OK)
        return status;
    cop_model_describe(b->model, &b->info);
    uint64_t prompt = (uint64_t)cfg->bench_tokens + (uint64_t)cfg->bench_suffix_tokens;
    if (prompt > b->info.max_context)
        return cop_fail(err, COP_ERR_INVALID,
                        "bench.tokens=%lld and bench.suffix_tokens=%lld: the context of '%s' ends "
                        "at %u",
                        (long long)cfg->bench_tokens, (long long)cfg->bench_suffix_tokens,
                        b->info.name, b->info.max_context);
    cache.capacity_tokens = 2 * (uint32_t)prompt + SHORTEST + STEPS + 4 * cache.block_tokens;
    status = cop_cache_open(&b->cache, b->model, &cache, err);
    if (status == COP_OK)
        cop_model_describe(b->model, &b->info); /* the device is known now */
    return status;
}

static cop_status bench_open(bench *b, const cop_config *cfg, cop_error *err)
{
    *b = (bench){.longest = (uint32_t)cfg->bench_tokens,
                 .suffix = (uint32_t)cfg->bench_suffix_tokens,
                 .users = (uint32_t)cfg->bench_users,
                 .repeats = (uint32_t)cfg->bench_repeats,
                 .exact = strcmp(cfg->device_kind, "cpu") == 0 || cfg->device_deterministic};
    cop_rng_init(&b->rng, (uint64_t)cfg->seed, 1);
    cop_status status = open_library(b, cfg, err);
    if (status != COP_OK)
        return status;
    size_t runs = (size_t)b->users * b->repeats;
    b->prompt = cop_calloc((size_t)b->longest + b->suffix, sizeof *b->prompt);
    b->cold_ms = cop_calloc(runs, sizeof *b->cold_ms);
    b->hit_ms = cop_calloc(runs, sizeof *b->hit_ms);
    b->speedup = cop_calloc(runs, sizeof *b->speedup);
    if (!cfg->bench_csv[0])
        return COP_OK;
    b->csv = fopen(cfg->bench_csv, "w");
    if (!b->csv)
        return cop_fail(err, COP_ERR_IO, "%s: %s", cfg->bench_csv, strerror(errno));
    return COP_OK;
}

static cop_status bench_close(bench *b, const char *path, cop_status status, cop_error *err)
{
    bool failed = b->csv && ferror(b->csv);
    if (b->csv && (fclose(b->csv) != 0 || failed) && status == COP_OK)
        status = cop_fail(err, COP_ERR_IO, "%s: %s", path, strerror(errno));
    cop_cache_close(b->cache);
    cop_model_close(b->model);
    free(b->prompt);
    free(b->cold_ms);
    free(b->hit_ms);
    free(b->speedup);
    return status;
}

cop_status cop_bench_prompt_cache(const cop_config *cfg, FILE *out, cop_error *err)
{
    bench b;
    cop_status status = bench_open(&b, cfg, err);
    if (status == COP_OK)
        status = measure_step(&b, err);
    if (status == COP_OK)
        print_head(&b, out);
    /* 64, 128, ... and the longest, which may lie between two of them */
    for (uint64_t next = SHORTEST, system = 0; status == COP_OK && system < b.longest; next *= 2) {
        row r;
        system = next < b.longest ? next : b.longest;
        status = measure(&b, (uint32_t)system, &r, err);
        if (status == COP_OK)
            print_row(&b, &r, out);
    }
    return bench_close(&b, cfg->bench_csv, status, err);
}
