/* Any bytes as a frame. Every entry lies inside it; what cop_message_valid lets pass can be read as
 * its hearers read it, to the last byte and not beyond. */
#include "fuzz.h"

#include "base/check.h"
#include "base/hash.h"
#include "message_samples.h"

/* Reads an array as a hearer does: it must be there, and be all that is left. */
static uint64_t touch_rest(cop_cursor *body, size_t bytes)
{
    const void *array = cop_cursor_take(body, bytes);
    COP_CHECK(array != NULL);
    return cop_hash(array, bytes, 0);
}

static uint64_t touch_submit(cop_cursor *body)
{
    cop_say_submit say;
    COP_CHECK(cop_cursor_get(body, &say, sizeof say));
    const cop_request *r = &say.request;
    size_t wanted = (size_t)r->prompt_tokens + (r->output_given ? r->output_tokens : 0);
    COP_CHECK(r->prompt_tokens >= 1 && r->output_tokens >= 1 && say.tokens == wanted);
    return touch_rest(body, wanted * sizeof(uint32_t));
}

static uint64_t touch_offer(cop_cursor *body)
{
    cop_say_offer say;
    COP_CHECK(cop_cursor_get(body, &say, sizeof say));
    COP_CHECK(say.checksums == 0 || say.checksums == say.blocks);
    uint64_t tokens = touch_rest(body, (size_t)say.blocks * say.block_tokens * sizeof(uint32_t));
    return tokens ^ touch_rest(body, say.checksums * sizeof(uint64_t));
}

static void check_plan(cop_cursor *body)
{
    cop_plan plan;
    COP_CHECK(cop_cursor_get(body, &plan, sizeof plan));
    COP_CHECK(plan.src < SAMPLE_WORKERS && plan.dst < SAMPLE_WORKERS && plan.src != plan.dst);
    COP_CHECK(plan.have_block < plan.end_block);
}

static uint64_t touch(cop_heard heard)
{
    cop_say_blocks blocks;
    cop_say_accept accept;
    uint64_t sum = 0;
    switch (heard.kind) {
    case COP_SAY_SUBMIT:
        sum = touch_submit(&heard.body);
        break;
    case COP_SAY_OFFER:
        sum = touch_offer(&heard.body);
        break;
    case COP_SAY_PLAN_SEND:
    case COP_SAY_PLAN_RECEIVE:
        check_plan(&heard.body);
        break;
    case COP_SAY_ACCEPT:
        COP_CHECK(cop_cursor_get(&heard.body, &accept, sizeof accept));
        COP_CHECK(accept.from + accept.count >= accept.from);
        break;
    case COP_SAY_INSERTED:
    case COP_SAY_EVICTED:
        COP_CHECK(cop_cursor_get(&heard.body, &blocks, sizeof blocks));
        sum = touch_rest(&heard.body, blocks.count * sizeof(uint64_t));
        break;
    case COP_SAY_FIRST_TOKEN:
    case COP_SAY_FINISHED:
        sum = touch_rest(&heard.body, sizeof(cop_request_story));
        break;
    case COP_SAY_TRANSFER_ENDED:
        sum = touch_rest(&heard.body, sizeof(cop_say_ended));
        break;
    case COP_SAY_STEP:
        sum = touch_rest(&heard.body, sizeof(cop_steps_row));
        break;
    case COP_SAY_EVICTION_ROWS:
        while (heard.body.at != heard.body.end)
            sum ^= touch_rest(&heard.body, sizeof(cop_evictions_row));
        break;
    case COP_SAY_GAUGES:
        sum = touch_rest(&heard.body, sizeof(cop_workers_row));
        break;
    case COP_SAY_STOP:
        break;
    }
    COP_CHECK(heard.body.at == heard.body.end);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cop_cursor at = {data, data + size};
    cop_heard heard;
    static volatile uint64_t keep; /* so that no read is left out */
    while (cop_hear(&at, &heard)) {
        COP_CHECK(heard.body.at >= data && heard.body.end <= at.at && at.at <= data + size);
        COP_CHECK(*cop_message_name(heard.kind) != '\0');
        if (cop_message_valid(&heard, SAMPLE_WORKERS, SAMPLE_BLOCK_TOKENS))
            keep = touch(heard);
    }
    (void)keep;
    return 0;
}
