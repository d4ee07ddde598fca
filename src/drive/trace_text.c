/* What is in a file of conversations, and, with a tokenizer, what a cache that never forgets would
 * find in it. */
#include "base/alloc.h"
#include "base/hash.h"
#include "base/map.h"
#include "drive/bench.h"
#include "drive/encoder.h"
#include "drive/setup.h"
#include "workload/sharegpt.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- text -------------------------------------------------------------------------------- */

typedef struct {
    uint64_t conversations, with_system, turns, most_turns;
    uint64_t system_bytes, user_bytes, answer_bytes;
    cop_sharegpt_counts counts;
} census;

static void count_dialogue(census *c, const cop_dialogue *d, uint64_t turns)
{
    c->conversations++;
    c->with_system += d->has_system;
    c->turns += turns;
    c->most_turns = turns > c->most_turns ? turns : c->most_turns;
    for (size_t i = 0; i < d->has_system + 2 * turns; i++) {
        const cop_chat_message *m = &d->messages[i];
        uint64_t *bytes = m->role == COP_ROLE_SYSTEM ? &c->system_bytes
                          : m->role == COP_ROLE_USER ? &c->user_bytes
                                                     : &c->answer_bytes;
        *bytes += m->bytes;
    }
}

static cop_status take_census(census *c, const cop_config *cfg, cop_error *err)
{
    uint64_t limit = (uint64_t)cfg->workload_limit;
    cop_sharegpt *reader;
    cop_dialogue d;
    bool found = true;
    *c = (census){0};
    cop_status status =
        cop_sharegpt_open(&reader, cfg->workload_path, cfg->workload_skip_bad_lines, err);
    if (status != COP_OK)
        return status;
    while (found && status == COP_OK && (!limit || c->turns < limit)) {
        status = cop_sharegpt_next(reader, &d, &found, err);
        if (status == COP_OK && found)
            count_dialogue(c, &d, limit && limit - c->turns < d.turns ? limit - c->turns : d.turns);
    }
    c->counts = cop_sharegpt_count(reader);
    cop_sharegpt_close(reader);
    return status;
}

static void print_census(FILE *out, const cop_config *cfg, const census *c)
{
    fprintf(out, "%-26s %s\n", "trace", cfg->workload_path);
    fprintf(out, "%-26s sharegpt\n", "format");
    fprintf(out, "%-26s %" PRIu64 ", %" PRIu64 " with a system message\n", "conversations",
            c->conversations, c->with_system);
    fprintf(out, "%-26s %" PRIu64 "\n", "empty ones left out", c->counts.empty);
    if (c->counts.bad)
        fprintf(out, "%-26s %" PRIu64 "\n", "bad ones skipped", c->counts.bad);
    fprintf(out, "%-26s %" PRIu64 ", mean %.2f, max %" PRIu64 " a conversation\n",
            "turns (requests)", c->turns, (double)c->turns / (double)c->conversations,
            c->most_turns);
    fprintf(out,
            "%-26s %" PRIu64 " bytes of system messages, %" PRIu64 " of users, %" PRIu64
            " of answers\n",
            "text", c->system_bytes, c->user_bytes, c->answer_bytes);
}

/* ---- tokens ------------------------------------------------------------------------------ */

typedef struct {
    uint64_t prompt_tokens, output_tokens, longest;
    uint64_t blocks, hit_blocks, distinct; /* whole blocks of prompts */
} reuse;

/* Prompts look up; prompts and answers stay in the cache. */
static void count_request(reuse *u, cop_map *seen, const cop_request *r, uint32_t block_tokens)
{
    uint32_t blocks = r->prompt_tokens / block_tokens;
    uint32_t all = (r->prompt_tokens + r->output_tokens) / block_tokens;
    uint64_t hash = cop_hash_root(0);
    bool hitting = true;
    for (uint32_t i = 0; i < all; i++) {
        hash = cop_hash_block(hash, r->tokens + (size_t)i * block_tokens, block_tokens);
        hitting = hitting && i < blocks && cop_map_get(seen, hash);
        u->hit_blocks += hitting;
        if (!hitting)
            cop_map_put(seen, hash, 1);
    }
    u->blocks += blocks;
    u->prompt_tokens += r->prompt_tokens;
    u->output_tokens += r->output_tokens;
    u->longest = r->prompt_tokens > u->longest ? r->prompt_tokens : u->longest;
}

static reuse measure_reuse(const cop_transcripts *t, uint32_t block_tokens)
{
    reuse u = {0};
    cop_map seen;
    cop_map_init(&seen);
    for (uint64_t session = 0; session < t->session_count; session++)
        for (uint32_t turn = 0; turn < cop_transcripts_turns(t, session); turn++) {
            cop_request request;
            cop_transcripts_request(t, session, turn, &request);
            count_request(&u, &seen, &request, block_tokens);
            free((void *)request.tokens);
        }
    u.distinct = seen.count;
    cop_map_fini(&seen);
    return u;
}

static double ratio(uint64_t part, uint64_t all)
{
    return all ? (double)part / (double)all : 0;
}

static void print_reuse(FILE *out, const cop_transcripts *t, uint32_t block_tokens)
{
    reuse u = measure_reuse(t, block_tokens);
    double requests = (double)t->turn_count;
    fprintf(out, "%-26s mean %.1f, max %" PRIu64 " tokens; %" PRIu64 " in all\n", "prompts",
            (double)u.prompt_tokens / requests, u.longest, u.prompt_tokens);
    fprintf(out, "%-26s mean %.1f tokens; %" PRIu64 " in all\n", "answers",
            (double)u.output_tokens / requests, u.output_tokens);
    fprintf(out, "%-26s %" PRIu64 " of %u tokens in prompts, %" PRIu64 " distinct with answers\n",
            "blocks", u.blocks, block_tokens, u.distinct);
    fputs("infinite-cache hit ratio\n", out);
    fprintf(out, "  %-24s %.4f  (%" PRIu64 " of %" PRIu64 " blocks)\n", "blocks",
            ratio(u.hit_blocks, u.blocks), u.hit_blocks, u.blocks);
    fprintf(out, "  %-24s %.4f  (%" PRIu64 " of %" PRIu64 " prompt tokens)\n", "tokens",
            ratio(u.hit_blocks * block_tokens, u.prompt_tokens), u.hit_blocks * block_tokens,
            u.prompt_tokens);
    fputs(
        "how it is counted: conversations in file order, each to its end, nothing is ever "
        "evicted.\n"
        "A whole block of a prompt hits if it and all before it in its prompt came in an earlier\n"
        "prompt or answer; partial last blocks never hit. 'tokens' are the tokens of those blocks\n"
        "among all prompt tokens.\n",
        out);
}

/* The vocabulary of a model is not looked at: this is about the text. */
static cop_status print_tokens(FILE *out, const cop_config *cfg, cop_error *err)
{
    cop_encoder *encoder;
    cop_weights *weights = NULL;
    cop_sharegpt *reader = NULL;
    cop_transcripts transcripts = {0};
    cop_status status = cfg->model_path[0] ? cop_setup_weights(&weights, cfg, err) : COP_OK;
    if (status == COP_OK)
        status = cop_encoder_open(&encoder, cfg, weights, err);
    cop_weights_close(weights);
    if (status != COP_OK)
        return status;
    status = cop_sharegpt_open(&reader, cfg->workload_path, cfg->workload_skip_bad_lines, err);
    cop_transcripts_options options = {
        .encoder = cop_encoder_ops(encoder),
        .vocab = cop_encoder_vocab(encoder),
        .limit = (uint64_t)cfg->workload_limit,
        .max_output_tokens = (uint32_t)cfg->workload_max_output_tokens,
    };
    if (status == COP_OK)
        status = cop_transcripts_read(&transcripts, reader, &options, err);
    if (status == COP_OK) {
        fprintf(out, "%-26s %s, template %s\n", "tokenizer", cop_encoder_path(encoder),
                cop_encoder_template(encoder));
        print_reuse(out, &transcripts, (uint32_t)cfg->cache_block_tokens);
    }
    cop_transcripts_fini(&transcripts);
    cop_sharegpt_close(reader);
    cop_encoder_close(encoder);
    return status;
}

cop_status cop_trace_info_text(const cop_config *cfg, FILE *out, cop_error *err)
{
    census c;
    cop_status status = take_census(&c, cfg, err);
    if (status != COP_OK)
        return status;
    print_census(out, cfg, &c);
    if (cop_setup_tokenizer(cfg)[0])
        return print_tokens(out, cfg, err);
    fprintf(out, "%-26s not known: set model.tokenizer (or model.path)\n", "tokens");
    return COP_OK;
}
