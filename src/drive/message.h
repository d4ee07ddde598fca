/* What ranks say to each other. A frame is one bus message: entries one after another, each
 *
 *     offset  type  meaning
 *     0       u32   kind (cop_message_kind)
 *     4       u32   bytes of the body
 *     8       ...   body, padded to 8 bytes
 *
 * and a body is a fixed struct below, followed by the arrays that its comment names, in that order.
 * Host byte order; every rank is the same binary: the digest that ranks compare at the start has
 * COP_MESSAGE_VERSION in it. Whoever takes a frame apart asks cop_message_valid of every entry, once;
 * the hearers behind it rely on the sizes and only judge what needs their own state. */
#ifndef COP_DRIVE_MESSAGE_H
#define COP_DRIVE_MESSAGE_H

#include "base/buffer.h"
#include "core/plan.h"
#include "core/worker.h"
#include "record/record.h"

#include <stdbool.h>
#include <stdint.h>

enum { COP_MESSAGE_VERSION = 2 };

typedef enum {
    /* front end -> worker */
    COP_SAY_SUBMIT = 1,   /* cop_say_submit, u32 tokens[] */
    COP_SAY_PLAN_SEND,    /* cop_plan */
    COP_SAY_PLAN_RECEIVE, /* cop_plan */
    COP_SAY_STOP,         /* - */
    /* worker -> worker */
    COP_SAY_OFFER,  /* cop_say_offer, u32 tokens[blocks * block_tokens], u64 checksums[blocks] */
    COP_SAY_ACCEPT, /* cop_say_accept */
    /* worker -> front end */
    COP_SAY_INSERTED,       /* cop_say_blocks, u64 hashes[count] */
    COP_SAY_EVICTED,        /* cop_say_blocks, u64 hashes[count] */
    COP_SAY_FIRST_TOKEN,    /* cop_request_story */
    COP_SAY_FINISHED,       /* cop_request_story */
    COP_SAY_TRANSFER_ENDED, /* cop_say_ended */
    COP_SAY_STEP,           /* cop_steps_row */
    COP_SAY_EVICTION_ROWS,  /* cop_evictions_row rows[] */
    COP_SAY_GAUGES          /* cop_workers_row */
} cop_message_kind;

typedef struct {
    cop_request request; /* request.tokens is meaningless here */
    uint64_t transfer;
    uint32_t tokens, pad; /* in the array */
} cop_say_submit;

typedef struct {
    uint64_t transfer, tenant;
    uint32_t blocks, outcome, block_tokens, checksums; /* checksums: 0 or blocks */
} cop_say_offer;

typedef struct {
    uint64_t transfer;
    uint32_t from, count;
} cop_say_accept;

typedef struct {
    uint32_t count, used_blocks;
} cop_say_blocks;

typedef struct {
    uint64_t transfer, bytes;
    uint32_t outcome, blocks;
    int64_t offered_ns, posted_ns, ended_ns, wait_ns, wire_ns, unpack_ns;
} cop_say_ended;

/* No size is an accident: a change of one is a new COP_MESSAGE_VERSION. */
_Static_assert(sizeof(cop_say_submit) == 72, "layout");
_Static_assert(sizeof(cop_plan) == 72, "layout");
_Static_assert(sizeof(cop_say_offer) == 32, "layout");
_Static_assert(sizeof(cop_say_accept) == 16, "layout");
_Static_assert(sizeof(cop_say_blocks) == 8, "layout; hashes behind it stay aligned");
_Static_assert(sizeof(cop_say_ended) == 72, "layout");
_Static_assert(sizeof(cop_request_story) == 104, "layout");
_Static_assert(sizeof(cop_steps_row) == 48, "layout, 4 bytes of padding at the end");
_Static_assert(sizeof(cop_evictions_row) == 64, "layout, 6 bytes of padding at the end");
_Static_assert(sizeof(cop_workers_row) == 64, "layout");

/* Appends one entry: the fixed struct and up to two arrays. */
void cop_say(cop_buffer *frame, cop_message_kind kind, const void *body, size_t bytes,
             const void *array1, size_t bytes1, const void *array2, size_t bytes2);

typedef struct {
    cop_message_kind kind;
    cop_cursor body;
} cop_heard;

/* Next entry of a frame; false at its end, or when it is malformed (*at is then not at its end). */
bool cop_hear(cop_cursor *at, cop_heard *out);

/* Whether the kind is known, the body is exactly as long as its struct and the arrays that the
 * struct announces, and its numbers can be true in a cluster of so many workers with blocks of
 * block_tokens tokens, >= 1. */
bool cop_message_valid(const cop_heard *heard, uint32_t workers, uint32_t block_tokens);

const char *cop_message_name(cop_message_kind kind); /* for error texts; never NULL */

#endif
