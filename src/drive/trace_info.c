#include "base/alloc.h"
#include "base/map.h"
#include "drive/bench.h"
#include "workload/workload.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MINUTE_MS = 60000 };

/* What a cache that never forgets would find, if the requests came one after the other. */
typedef struct {
    uint64_t blocks, hit_blocks; /* the partial last block counted as a block */
    uint64_t whole, hit_whole;   /* only blocks of 512 tokens */
    uint64_t tokens, hit_tokens; /* of prompts; a partial last block can hit too */
    uint64_t distinct;
} reuse;

typedef struct {
    uint32_t min, median, max;
    double mean;
} spread;

typedef struct {
    uint64_t minutes, min, max;
    double mean;
} minute_rate;

static void count_request(reuse *u, cop_map *seen, const cop_mooncake *trace,
                          const cop_mooncake_row *row)
{
    const uint64_t *ids = trace->ids + row->first_id;
    uint32_t whole = row->input_length / COP_MOONCAKE_BLOCK, hit = 0;
    while (hit < row->id_count && cop_map_get(seen, ids[hit]))
        hit++;
    uint64_t hit_tokens = (uint64_t)hit * COP_MOONCAKE_BLOCK;
    for (uint32_t i = hit; i < row->id_count; i++)
        cop_map_put(seen, ids[i], 1);
    u->blocks += row->id_count;
    u->hit_blocks += hit;
    u->whole += whole;
    u->hit_whole += hit < whole ? hit : whole;
    u->tokens += row->input_length;
    u->hit_tokens += hit_tokens < row->input_length ? hit_tokens : row->input_length;
}

static reuse measure_reuse(const cop_mooncake *trace)
{
    reuse u = {0};
    cop_map seen;
    cop_map_init(&seen);
    for (size_t i = 0; i < trace->row_count; i++)
        count_request(&u, &seen, trace, &trace->rows[i]);
    u.distinct = seen.count;
    cop_map_fini(&seen);
    return u;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static spread measure_lengths(const cop_mooncake *trace, bool output)
{
    size_t n = trace->row_count;
    uint32_t *lengths = cop_malloc(n * sizeof *lengths);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        lengths[i] = output ? trace->rows[i].output_length : trace->rows[i].input_length;
        sum += lengths[i];
    }
    qsort(lengths, n, sizeof *lengths, by_value);
    spread s = {lengths[0], lengths[(n - 1) / 2], lengths[n - 1], sum / (double)n};
    free(lengths);
    return s;
}

/* Over whole minutes from the first request on; a minute that the trace does not fill is left out.
 * Needs no array of minutes, as requests are in order: a gap may be of any length. */
static minute_rate measure_rate(const cop_mooncake *trace)
{
    const cop_mooncake_row *rows = trace->rows;
    minute_rate r = {.min = UINT64_MAX};
    uint64_t counted = 0;
    r.minutes =
        (uint64_t)(rows[trace->row_count - 1].timestamp_ms - rows[0].timestamp_ms) / MINUTE_MS;
    uint64_t next = 0; /* first minute not yet counted */
    for (size_t i = 0; i < trace->row_count;) {
        uint64_t minute = (uint64_t)(rows[i].timestamp_ms - rows[0].timestamp_ms) / MINUTE_MS;
        int64_t end_ms = rows[0].timestamp_ms + (int64_t)(minute + 1) * MINUTE_MS;
        uint64_t n = 0;
        while (i < trace->row_count && rows[i].timestamp_ms < end_ms) {
            n++;
            i++;
        }
        if (minute > next)
            r.min = 0;
        if (minute >= r.minutes)
            break;
        counted += n;
        r.min = n < r.min ? n : r.min;
        r.max = n > r.max ? n : r.max;
        next = minute + 1;
    }
    r.mean = r.minutes ? (double)counted / (double)r.minutes : 0;
    return r;
}

static void print_spread(FILE *out, const char *name, const cop_mooncake *trace, bool output)
{
    spread s = measure_lengths(trace, output);
    fprintf(out, "%-26s min %u, median %u, mean %.1f, max %u tokens\n", name, s.min, s.median,
            s.mean, s.max);
}

static void print_rate(FILE *out, const cop_mooncake *trace)
{
    minute_rate r = measure_rate(trace);
    if (r.minutes)
        fprintf(out,
                "%-26s min %" PRIu64 ", mean %.1f, max %" PRIu64 " requests a minute, over %" PRIu64
                " whole minutes\n",
                "arrivals", r.min, r.mean, r.max, r.minutes);
    else
        fprintf(out, "%-26s shorter than a minute: no rate\n", "arrivals");
}

static void print_ratio(FILE *out, const char *name, uint64_t hit, uint64_t all, const char *unit)
{
    if (all)
        fprintf(out, "  %-24s %.4f  (%" PRIu64 " of %" PRIu64 " %s)\n", name,
                (double)hit / (double)all, hit, all, unit);
    else
        fprintf(out, "  %-24s none: no request has one\n", name);
}

static void print_reuse(FILE *out, const cop_mooncake *trace)
{
    reuse u = measure_reuse(trace);
    fprintf(out, "%-26s %" PRIu64 " of %d tokens, %" PRIu64 " distinct\n", "blocks", u.blocks,
            COP_MOONCAKE_BLOCK, u.distinct);
    fputs("infinite-cache hit ratio\n", out);
    print_ratio(out, "blocks", u.hit_blocks, u.blocks, "blocks");
    print_ratio(out, "whole blocks only", u.hit_whole, u.whole, "blocks");
    print_ratio(out, "tokens", u.hit_tokens, u.tokens, "prompt tokens");
    fputs(
        "how it is counted: requests in file order, nothing is ever evicted. A block hits if its\n"
        "id came in an earlier request and every block before it in its own request hits too:\n"
        "the first miss ends the prefix. 'blocks' counts every id once for each request that\n"
        "lists it, the partial last block as a block. 'whole blocks only' leaves partial last\n"
        "blocks out. 'tokens' weighs each block of 'blocks' by the prompt tokens in it.\n",
        out);
}

static cop_status trace_info_mooncake(const cop_config *cfg, FILE *out, cop_error *err)
{
    cop_mooncake trace;
    cop_status status = cop_mooncake_read(&trace, cfg->workload_path, (uint64_t)cfg->workload_limit,
                                          cfg->workload_skip_bad_lines, err);
    if (status != COP_OK)
        return status;
    const cop_mooncake_row *first = trace.rows, *last = trace.rows + trace.row_count - 1;
    fprintf(out, "%-26s %s\n", "trace", cfg->workload_path);
    fprintf(out, "%-26s mooncake\n", "format");
    fprintf(out, "%-26s %zu\n", "requests", trace.row_count);
    if (trace.skipped)
        fprintf(out, "%-26s %" PRIu64 "\n", "bad lines skipped", trace.skipped);
    fprintf(out, "%-26s %.3f s\n", "span",
            (double)(last->timestamp_ms - first->timestamp_ms) / 1e3);
    print_rate(out, &trace);
    print_spread(out, "input length", &trace, false);
    print_spread(out, "output length", &trace, true);
    fprintf(out, "%-26s not known: the format has no sessions\n", "sessions");
    print_reuse(out, &trace);
    cop_mooncake_fini(&trace);
    return COP_OK;
}

/* By how the file begins. One that cannot be read counts as Mooncake's: its reader says why. */
static bool looks_like_text(const char *path)
{
    static const char *const mooncake_fields[] = {"timestamp", "input_length", "output_length",
                                                  "hash_ids"};
    char first = 0, field[32] = "";
    FILE *in = path[0] ? fopen(path, "rb") : NULL;
    if (!in)
        return false;
    int found = fscanf(in, " %c \"%31[^\"]\"", &first, field);
    fclose(in);
    if (found < 1 || first != '{' || found < 2)
        return found >= 1 && first == '[';
    for (size_t i = 0; i < sizeof mooncake_fields / sizeof *mooncake_fields; i++)
        if (strcmp(field, mooncake_fields[i]) == 0)
            return false;
    return true;
}

cop_status cop_trace_info(const cop_config *cfg, FILE *out, cop_error *err)
{
    const char *format = cfg->workload_format;
    bool text = strcmp(format, "sharegpt") == 0 ||
                (strcmp(format, "mooncake") != 0 && looks_like_text(cfg->workload_path));
    return text ? cop_trace_info_text(cfg, out, err) : trace_info_mooncake(cfg, out, err);
}
