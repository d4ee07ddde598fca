/* One valid message of each kind: what the tests of messages start from, and the fuzzer's corpus.
 * Bodies are filled with bytes that differ, so that a mixed-up field shows. */
#ifndef COP_TESTS_MESSAGE_SAMPLES_H
#define COP_TESTS_MESSAGE_SAMPLES_H

#include "drive/message.h"

#include <string.h>

enum { SAMPLE_WORKERS = 4, SAMPLE_BLOCK_TOKENS = 4, SAMPLE_MOST = 8 };

static inline void fill_sample(void *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)out)[i] = (uint8_t)(i * 7 + 1);
}

static inline void say_sample_submit(cop_buffer *frame, uint32_t n)
{
    uint32_t tokens[2 * SAMPLE_MOST];
    cop_say_submit say = {.request = {.id = 5,
                                      .session = 2,
                                      .tenant = 1,
                                      .turn = 3,
                                      .prompt_tokens = n,
                                      .output_tokens = n,
                                      .output_given = true,
                                      .scheduled_ns = 1000},
                          .transfer = 9,
                          .tokens = 2 * n};
    fill_sample(tokens, sizeof tokens);
    cop_say(frame, COP_SAY_SUBMIT, &say, sizeof say, tokens, say.tokens * sizeof *tokens, NULL, 0);
}

static inline void say_sample_offer(cop_buffer *frame, uint32_t n)
{
    uint32_t tokens[SAMPLE_MOST * SAMPLE_BLOCK_TOKENS];
    uint64_t checksums[SAMPLE_MOST];
    cop_say_offer say = {.transfer = 9,
                         .tenant = 1,
                         .blocks = n,
                         .outcome = n ? COP_TRANSFER_DONE : COP_TRANSFER_GONE,
                         .block_tokens = SAMPLE_BLOCK_TOKENS,
                         .checksums = n};
    fill_sample(tokens, sizeof tokens);
    fill_sample(checksums, sizeof checksums);
    cop_say(frame, COP_SAY_OFFER, &say, sizeof say, tokens,
            (size_t)n * SAMPLE_BLOCK_TOKENS * sizeof *tokens, checksums, n * sizeof *checksums);
}

static inline void say_sample_plan(cop_buffer *frame, cop_message_kind kind)
{
    cop_plan plan = {.id = 9,
                     .request = 5,
                     .src = 1,
                     .dst = 3,
                     .reason = COP_REASON_REPLICATE,
                     .end_block = 6,
                     .have_block = 2,
                     .last_hash = 77,
                     .planned_ns = 1000,
                     .predicted_transfer_ns = 2e6,
                     .predicted_saved_ns = 5e6};
    cop_say(frame, kind, &plan, sizeof plan, NULL, 0, NULL, 0);
}

static inline void say_sample_blocks(cop_buffer *frame, cop_message_kind kind, uint32_t n)
{
    uint64_t hashes[SAMPLE_MOST];
    cop_say_blocks say = {.count = n, .used_blocks = 40};
    fill_sample(hashes, sizeof hashes);
    cop_say(frame, kind, &say, sizeof say, hashes, n * sizeof *hashes, NULL, 0);
}

/* Appends a message of the kind; its arrays, if it has any, are of the order of n <= SAMPLE_MOST
 * (a submit needs n >= 1). */
static inline void say_sample(cop_buffer *frame, cop_message_kind kind, uint32_t n)
{
    uint8_t body[SAMPLE_MOST * sizeof(cop_evictions_row)];
    fill_sample(body, sizeof body);
    cop_say_accept accept = {.transfer = 9, .from = 2, .count = n};
    cop_say_ended ended = {.transfer = 9, .bytes = 4096, .outcome = COP_TRANSFER_REFUSED};
    switch (kind) {
    case COP_SAY_SUBMIT:
        say_sample_submit(frame, n);
        return;
    case COP_SAY_PLAN_SEND:
    case COP_SAY_PLAN_RECEIVE:
        say_sample_plan(frame, kind);
        return;
    case COP_SAY_STOP:
        cop_say(frame, kind, NULL, 0, NULL, 0, NULL, 0);
        return;
    case COP_SAY_OFFER:
        say_sample_offer(frame, n);
        return;
    case COP_SAY_ACCEPT:
        cop_say(frame, kind, &accept, sizeof accept, NULL, 0, NULL, 0);
        return;
    case COP_SAY_INSERTED:
    case COP_SAY_EVICTED:
        say_sample_blocks(frame, kind, n);
        return;
    case COP_SAY_FIRST_TOKEN:
    case COP_SAY_FINISHED:
        cop_say(frame, kind, body, sizeof(cop_request_story), NULL, 0, NULL, 0);
        return;
    case COP_SAY_TRANSFER_ENDED:
        cop_say(frame, kind, &ended, sizeof ended, NULL, 0, NULL, 0);
        return;
    case COP_SAY_STEP:
        cop_say(frame, kind, body, sizeof(cop_steps_row), NULL, 0, NULL, 0);
        return;
    case COP_SAY_EVICTION_ROWS:
        cop_say(frame, kind, body, n * sizeof(cop_evictions_row), NULL, 0, NULL, 0);
        return;
    case COP_SAY_GAUGES:
        cop_say(frame, kind, body, sizeof(cop_workers_row), NULL, 0, NULL, 0);
        return;
    }
}

#endif
