#include "drive/message.h"

#include "base/check.h"

#include <stddef.h>
#include <string.h>

void cop_say(cop_buffer *frame, cop_message_kind kind, const void *body, size_t bytes,
             const void *array1, size_t bytes1, const void *array2, size_t bytes2)
{
    size_t total = bytes + bytes1 + bytes2, padding = (8 - total % 8) % 8;
    COP_CHECK(total <= UINT32_MAX);
    uint32_t head[2] = {kind, (uint32_t)total};
    cop_buffer_put(frame, head, sizeof head);
    cop_buffer_put(frame, body, bytes);
    cop_buffer_put(frame, array1, bytes1);
    cop_buffer_put(frame, array2, bytes2);
    memset(cop_buffer_reserve(frame, padding), 0, padding);
}

bool cop_hear(cop_cursor *at, cop_heard *out)
{
    uint32_t head[2];
    cop_cursor next = *at;
    if (!cop_cursor_get(&next, head, sizeof head))
        return false;
    const uint8_t *body = cop_cursor_take(&next, head[1]);
    if (!body || !cop_cursor_take(&next, (8 - head[1] % 8) % 8))
        return false;
    out->kind = (cop_message_kind)head[0];
    out->body = (cop_cursor){body, body + head[1]};
    *at = next;
    return true;
}

/* Whether what is left is an array of so many; divides, as the product may overflow. */
static bool left_are(cop_cursor body, uint32_t count, uint64_t each_bytes)
{
    uint64_t left = (uint64_t)(body.end - body.at);
    return left % each_bytes == 0 && left / each_bytes == count;
}

static bool valid_submit(cop_cursor body)
{
    cop_say_submit say;
    if (!cop_cursor_get(&body, &say, sizeof say))
        return false;
    uint8_t given; /* a bool may only be read as one when it is 0 or 1 */
    memcpy(&given, (uint8_t *)&say + offsetof(cop_say_submit, request.output_given), 1);
    const cop_request *r = &say.request;
    uint64_t tokens = (uint64_t)r->prompt_tokens + (given ? r->output_tokens : 0);
    return given <= 1 && r->prompt_tokens >= 1 && r->output_tokens >= 1 && say.tokens == tokens &&
           left_are(body, say.tokens, sizeof(uint32_t));
}

static bool valid_plan(cop_cursor body, uint32_t workers)
{
    cop_plan plan;
    return cop_cursor_get(&body, &plan, sizeof plan) && body.at == body.end &&
           plan.src != plan.dst && plan.src < workers && plan.dst < workers &&
           plan.have_block < plan.end_block && plan.reason <= COP_REASON_REPLICATE;
}

static bool valid_offer(cop_cursor body, uint32_t block_tokens)
{
    cop_say_offer say;
    if (!cop_cursor_get(&body, &say, sizeof say) || say.block_tokens != block_tokens ||
        say.outcome > COP_TRANSFER_REFUSED || (say.checksums && say.checksums != say.blocks))
        return false;
    uint64_t block_bytes = block_tokens * (uint64_t)sizeof(uint32_t);
    return left_are(body, say.blocks, block_bytes + (say.checksums ? sizeof(uint64_t) : 0));
}

static bool valid_accept(cop_cursor body)
{
    cop_say_accept say;
    return cop_cursor_get(&body, &say, sizeof say) && body.at == body.end &&
           say.count <= UINT32_MAX - say.from;
}

static bool valid_blocks(cop_cursor body)
{
    cop_say_blocks say;
    return cop_cursor_get(&body, &say, sizeof say) && left_are(body, say.count, sizeof(uint64_t));
}

static bool valid_ended(cop_cursor body)
{
    cop_say_ended say;
    return cop_cursor_get(&body, &say, sizeof say) && body.at == body.end &&
           say.outcome <= COP_TRANSFER_REFUSED;
}

bool cop_message_valid(const cop_heard *heard, uint32_t workers, uint32_t block_tokens)
{
    size_t bytes = (size_t)(heard->body.end - heard->body.at);
    switch (heard->kind) {
    case COP_SAY_SUBMIT:
        return valid_submit(heard->body);
    case COP_SAY_PLAN_SEND:
    case COP_SAY_PLAN_RECEIVE:
        return valid_plan(heard->body, workers);
    case COP_SAY_STOP:
        return bytes == 0;
    case COP_SAY_OFFER:
        return valid_offer(heard->body, block_tokens);
    case COP_SAY_ACCEPT:
        return valid_accept(heard->body);
    case COP_SAY_INSERTED:
    case COP_SAY_EVICTED:
        return valid_blocks(heard->body);
    case COP_SAY_FIRST_TOKEN:
    case COP_SAY_FINISHED:
        return bytes == sizeof(cop_request_story);
    case COP_SAY_TRANSFER_ENDED:
        return valid_ended(heard->body);
    case COP_SAY_STEP:
        return bytes == sizeof(cop_steps_row);
    case COP_SAY_EVICTION_ROWS:
        return bytes % sizeof(cop_evictions_row) == 0;
    case COP_SAY_GAUGES:
        return bytes == sizeof(cop_workers_row);
    }
    return false;
}

const char *cop_message_name(cop_message_kind kind)
{
    static const char *const names[] = {
        [COP_SAY_SUBMIT] = "submit",
        [COP_SAY_PLAN_SEND] = "plan to send",
        [COP_SAY_PLAN_RECEIVE] = "plan to receive",
        [COP_SAY_STOP] = "stop",
        [COP_SAY_OFFER] = "offer",
        [COP_SAY_ACCEPT] = "accept",
        [COP_SAY_INSERTED] = "inserted blocks",
        [COP_SAY_EVICTED] = "evicted blocks",
        [COP_SAY_FIRST_TOKEN] = "first token",
        [COP_SAY_FINISHED] = "finished request",
        [COP_SAY_TRANSFER_ENDED] = "ended transfer",
        [COP_SAY_STEP] = "engine step",
        [COP_SAY_EVICTION_ROWS] = "eviction rows",
        [COP_SAY_GAUGES] = "gauges",
    };
    bool known = kind < sizeof names / sizeof *names && names[kind];
    return known ? names[kind] : "unknown";
}
