/* Where requests come from: a trace reader or a generator, behind one source.
 *
 *     while (!cop_workload_done(w)) {
 *         if (cop_workload_due(w, &due_ns) && due_ns <= now)  request = cop_workload_pop(w);
 *         ... when request r has ended:  cop_workload_finished(w, r->id, now);
 *     }
 *
 * A request and its tokens belong to the workload and last until cop_workload_finished. In a closed
 * loop the next turn becomes due only then; in an open loop every time is fixed in advance, so a
 * turn can be due before the answer to the one before it is done. The same options give the same
 * requests, always: in a closed loop their order and times depend on the server, a session's
 * content never does. Used by one thread.
 *
 * Formats: mooncake (one JSON object a line: timestamp in ms, input_length, output_length,
 * hash_ids of 512-token blocks; kvcache-ai/Mooncake, FAST'25); sharegpt (a JSON array of
 * conversations with text, sharegpt.h: tokenized while opening; sessions arrive as the generator's
 * do, in the order of the file, and later turns begin with the earlier ones); generator (shared
 * system prompts and documents, multi-turn sessions). */
#ifndef COP_WORKLOAD_WORKLOAD_H
#define COP_WORKLOAD_WORKLOAD_H

#include "base/conversation.h"
#include "base/request.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cop_workload cop_workload;

typedef enum { COP_ARRIVAL_POISSON, COP_ARRIVAL_GAMMA, COP_ARRIVAL_ONOFF } cop_arrival_process;

typedef struct {
    const char *format, *path;
    const cop_text_encoder *encoder; /* sharegpt: used while opening; the others need none */
    /* sharegpt: told now and then while a file is read, which can take minutes; NULL: nobody is. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_context;
    uint64_t seed;
    uint32_t vocab; /* tokens are drawn from [0, vocab) */
    uint64_t limit; /* 0: all */
    uint32_t scale; /* divides lengths; 1 where there is text */
    double speedup; /* divides gaps */
    bool skip_bad_lines;
    uint32_t max_output_tokens; /* 0: no cut */
    /* generator, sharegpt: when */
    bool closed_loop;
    cop_arrival_process arrival;
    double rate, cv, on_s, off_s, think_s;
    uint32_t users;
    /* generator: what */
    double system_zipf, document_share, turns;
    uint32_t requests, system_prompts, system_tokens, documents, document_tokens;
    uint32_t user_tokens, output_tokens, tenants;
} cop_workload_options;

cop_status cop_workload_open(cop_workload **out, const cop_workload_options *options,
                             cop_error *err);
void cop_workload_close(cop_workload *workload);

uint64_t cop_workload_total(const cop_workload *workload);   /* requests in all */
uint64_t cop_workload_skipped(const cop_workload *workload); /* bad lines passed over */

/* Time of the earliest request not yet popped, from the start; false: none is due before some
 * running request ends, or none is left. */
bool cop_workload_due(const cop_workload *workload, int64_t *due_ns);
const cop_request *cop_workload_pop(cop_workload *workload); /* requires due */
void cop_workload_finished(cop_workload *workload, uint64_t request, int64_t now_ns);
bool cop_workload_done(const cop_workload *workload); /* every request popped and finished */

/* ---- Mooncake traces, as they are ------------------------------------------------------- */

enum { COP_MOONCAKE_BLOCK = 512 };

typedef struct {
    int64_t timestamp_ms;
    uint32_t input_length, output_length;
    uint32_t first_id, id_count; /* range in cop_mooncake.ids */
} cop_mooncake_row;

typedef struct {
    cop_mooncake_row *rows;
    uint64_t *ids;
    size_t row_count, id_count, rows_capacity, ids_capacity;
    uint64_t skipped;
    size_t bytes; /* of the lines read: the whole file, without a limit */
} cop_mooncake;

/* Reads and checks a whole trace: every field present once, right type, non-negative, timestamps in
 * order, id_count == ceil(input_length / 512), input_length from 1 to 2^27. Fields in any order;
 * lines end with LF or CRLF, the last one needs neither; blank lines only at the end.
 * COP_ERR_CORRUPT with "file:line: what"; a path that can't be read or holds no request is
 * COP_ERR_INVALID. limit: requests to take, the lines after them are not looked at; 0: all.
 * skip_bad_lines: malformed lines are counted in `skipped`, a trace of nothing else is an error. */
cop_status cop_mooncake_read(cop_mooncake *out, const char *path, uint64_t limit,
                             bool skip_bad_lines, cop_error *err);
void cop_mooncake_fini(cop_mooncake *trace);

/* The tokens of a request: token i is a mix of (id of its block, i modulo 512) in [0, vocab); with
 * scale s, a divisor of 512, each block gives 512 / s tokens.
 * tokens: u32[*count], count = max(1, input_length / s). */
void cop_mooncake_tokens(const cop_mooncake *trace, const cop_mooncake_row *row, uint32_t scale,
                         uint32_t vocab, uint32_t *tokens, uint32_t *count);

#endif
