/* What people see while a run goes on: a live line on a terminal, a plain line now and then
 * elsewhere; always on stderr. */
#ifndef COP_DRIVE_PROGRESS_H
#define COP_DRIVE_PROGRESS_H

#include "base/histogram.h"
#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const cop_log *log;
    bool terminal;
    uint64_t total, finished, rejected, prompt_tokens, hit_tokens, transfers, transfers_failed;
    int64_t next_ns;
    cop_histogram ttft_ns;
} cop_progress;

void cop_progress_start(cop_progress *p, const cop_log *log, uint64_t total);
void cop_progress_first_token(cop_progress *p, int64_t ttft_ns, uint32_t prompt_tokens,
                              uint32_t hit_tokens);
void cop_progress_finished(cop_progress *p);
/* Says why the first few are rejected; the end tells how many were. */
void cop_progress_rejected(cop_progress *p, uint64_t request, const char *reason);
void cop_progress_transfer(cop_progress *p, bool done);
void cop_progress_show(cop_progress *p, int64_t now_ns);
void cop_progress_end(cop_progress *p, int64_t now_ns, const char *path, bool completed);

#endif
