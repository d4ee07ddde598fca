/* One request at a time through the worker and the device. */
#include "api/handles.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/rng.h"
#include "model/checkpoint.h"

#include <math.h>

/* A generation under way. */
typedef struct {
    cop_cache *cache;
    const cop_generate_options *options;
    cop_on_token *on_token; /* NULL: nobody listens */
    void *ctx;
    cop_answer answer;
    uint32_t new_tokens;
    bool stopped;
    int64_t first_ns, last_ns;
} generation;

static bool is_listed(uint32_t token, const uint32_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == token)
            return true;
    return false;
}

static bool is_stop(const generation *g, uint32_t token)
{
    const cop_model *model = g->cache->model;
    const cop_checkpoint *checkpoint = cop_weights_checkpoint(model->weights);
    size_t count = 0;
    const uint32_t *own = checkpoint ? cop_checkpoint_stops(checkpoint, &count) : NULL;
    if (g->options->ignore_stops)
        return false;
    return is_listed(token, own, count) || cop_text_ends_answer(model, token) ||
           is_listed(token, g->options->stops, g->options->stop_count);
}

/* A token is known: says it, and returns whether it is the last. */
static bool take_token(generation *g, uint32_t token)
{
    g->last_ns = cop_clock_ns();
    if (g->new_tokens++ == 0)
        g->first_ns = g->last_ns;
    g->stopped = is_stop(g, token);
    bool last = g->stopped || g->new_tokens == g->options->max_new_tokens;
    if (!g->on_token)
        return last;
    size_t bytes;
    const char *text = cop_answer_push(&g->answer, token, last, &bytes);
    if (!g->on_token(g->ctx, token, text, bytes))
        g->stopped = last = true;
    return last;
}

/* COPY and EVICTED concern us; what the router would be told does not. True: finished. */
static bool perform(cop_cache *cache, cop_request_story *story)
{
    const cop_device_ops *ops = cache->model->device_ops;
    bool finished = false;
    for (size_t i = 0; i < cache->actions.count; i++) {
        const cop_worker_action *action = &cache->actions.items[i];
        if (action->kind == COP_ACT_COPY)
            ops->copy_block(cache->device, action->copy.src, action->copy.dst, action->copy.tokens);
        if (action->kind == COP_ACT_EVICTED)
            cache->evicted_blocks += action->blocks.evicted_count;
        if (action->kind == COP_ACT_FINISHED) {
            *story = action->story;
            finished = true;
        }
    }
    return finished;
}

static cop_status compute(const generation *g, cop_step_result *result, cop_error *err)
{
    cop_cache *cache = g->cache;
    const cop_device_ops *ops = cache->model->device_ops;
    COP_CHECK(cache->actions.start_step && cache->actions.step_count == 1);
    const cop_step_sequence *step = cache->actions.step;
    cop_sequence sequence = {
        .tokens = step->tokens,
        .start = step->start,
        .count = step->count,
        .blocks = step->blocks,
        .sample = step->sample,
        .temperature = g->options->temperature,
        .top_p = g->options->top_p > 0 ? g->options->top_p : 1,
        .sample_seed = cop_splitmix64(g->options->seed),
    };
    cop_batch batch = {.count = 1, .sequences = &sequence};
    cop_status status = ops->submit(cache->device, &batch, err);
    if (status != COP_OK)
        return status;
    ops->wait(cache->device);
    bool done;
    status = ops->poll(cache->device, result, &done, err);
    COP_CHECK(status != COP_OK || done);
    return status;
}

static cop_status run(generation *g, cop_request_story *story, cop_error *err)
{
    cop_cache *cache = g->cache;
    cop_worker_event event = {
        .kind = COP_WORKER_SUBMIT,
        .now_ns = cop_clock_ns(),
        .submit = {.request = {.id = cache->prompts++,
                               .prompt_tokens = (uint32_t)g->options->count,
                               .output_tokens = g->options->max_new_tokens,
                               .tokens = g->options->tokens},
                   .transfer = COP_NO_TRANSFER,
                   .no_cache = g->options->no_cache},
    };
    for (bool ends;;) { /* `event` points at it */
        cop_worker_step(cache->worker, &event, &cache->actions);
        if (perform(cache, story))
            return COP_OK;
        cop_step_result result;
        cop_status status = compute(g, &result, err);
        if (status != COP_OK) {
            cop_cache_reset(cache);
            return status;
        }
        ends = cache->actions.step[0].sample && take_token(g, result.tokens[0]);
        event = (cop_worker_event){.kind = COP_WORKER_STEP_DONE,
                                   .now_ns = cop_clock_ns(),
                                   .step = {.tokens = result.tokens,
                                            .digests = result.digests,
                                            .ends = &ends,
                                            .started_ns = result.started_ns,
                                            .ended_ns = result.ended_ns}};
    }
}

/* Everything that the core and the device take for granted. */
static cop_status check_request(const cop_cache *cache, const cop_generate_options *o,
                                cop_error *err)
{
    const cop_geometry *geometry = cache->model->geometry;
    if (!o || !o->tokens || o->count == 0)
        return cop_fail(err, COP_ERR_INVALID, "an empty prompt: at least one token is needed");
    if (o->max_new_tokens == 0)
        return cop_fail(err, COP_ERR_INVALID, "max_new_tokens is 0; at least 1");
    if (!isfinite(o->temperature) || o->temperature < 0 || !(o->top_p >= 0 && o->top_p <= 1))
        return cop_fail(err, COP_ERR_INVALID,
                        "temperature %g, top_p %g; wanted: a temperature of at least 0, top_p from "
                        "0 to 1",
                        (double)o->temperature, (double)o->top_p);
    uint64_t most = geometry->max_context;
    uint64_t room = (uint64_t)cache->options.capacity_blocks * cache->options.block_tokens;
    const char *holder = room < most ? "this cache holds" : "the model's context holds";
    most = room < most ? room : most;
    if (o->count > most || o->max_new_tokens - 1 > most - o->count)
        return cop_fail(err, COP_ERR_INVALID,
                        "a prompt of %zu tokens and %u new ones, of which the last needs no room: "
                        "%s %llu tokens",
                        o->count, o->max_new_tokens, holder, (unsigned long long)most);
    for (size_t i = 0; i < o->count; i++)
        if (o->tokens[i] >= geometry->vocab)
            return cop_fail(err, COP_ERR_INVALID,
                            "token %zu of the prompt is %u; the vocabulary of %s ends at %u", i,
                            o->tokens[i], cache->model->name, geometry->vocab - 1);
    return cop_cache_idle(cache, err);
}

cop_status cop_generate(cop_cache *cache, const cop_generate_options *options,
                        cop_on_token *on_token, void *ctx, cop_generate_result *result,
                        cop_error *err)
{
    int64_t begun_ns = cop_clock_ns();
    cop_status status = check_request(cache, options, err);
    if (status != COP_OK)
        return status;
    generation g = {.cache = cache, .options = options, .on_token = on_token, .ctx = ctx};
    cop_request_story story;
    cop_answer_init(&g.answer, cache->model);
    cache->busy = true;
    status = run(&g, &story, err);
    cache->busy = false;
    cop_answer_fini(&g.answer);
    if (status == COP_OK && result)
        *result = (cop_generate_result){.prompt_tokens = story.prompt_tokens,
                                        .cached_tokens = story.hit_local,
                                        .computed_tokens = story.computed,
                                        .new_tokens = story.output_tokens,
                                        .stopped = g.stopped,
                                        .ttft_ns = g.first_ns - begun_ns,
                                        .total_ns = g.last_ns - begun_ns,
                                        .logits_hash = story.logits_digest};
    return status;
}

/* A request for one token, which nobody wants: its draw comes after the last token was computed. */
cop_status cop_cache_insert(cop_cache *cache, const uint32_t *tokens, size_t count,
                            size_t *computed, cop_error *err)
{
    cop_generate_options options = {.tokens = tokens, .count = count, .max_new_tokens = 1};
    cop_generate_result result;
    cop_status status = cop_generate(cache, &options, NULL, NULL, &result, err);
    if (status == COP_OK && computed)
        *computed = result.computed_tokens;
    return status;
}
