/* Rank 0's other half: the workload, the router, the record, and what people see meanwhile. */
#ifndef COP_DRIVE_FRONTEND_H
#define COP_DRIVE_FRONTEND_H

#include "base/log.h"
#include "config/config.h"
#include "drive/engine.h"
#include "drive/message.h"
#include "model/weights.h"

typedef struct cop_frontend cop_frontend;

typedef struct {
    const cop_config *cfg; /* borrowed */
    const cop_log *log;
    const cop_weights *weights;    /* borrowed */
    uint32_t workers, first_rank;  /* rank of worker 0 */
    const cop_greeting *greetings; /* [workers], borrowed during open */
    cop_buffer *outbox;            /* a frame for each rank; borrowed */
    const char *mpi_version;
    double link_small_ns, link_block_ns; /* measured one-way times: a small message, one block */
    double link_start_ns;                /* of a transfer beside its messages and blocks */
    int64_t clock_error_ns;
} cop_frontend_options;

/* Opens the workload first, so that bad input is found before a file is made; then the record, up to
 * the point where readers may look. */
cop_status cop_frontend_open(cop_frontend **out, const cop_frontend_options *options,
                             cop_error *err);

/* Time 0 of the run is cop_clock_ns + clock_to_run_ns == 0. */
void cop_frontend_start(cop_frontend *frontend, int64_t clock_to_run_ns);

cop_status cop_frontend_hear(cop_frontend *frontend, uint32_t worker, const cop_heard *heard,
                             cop_error *err);
cop_status cop_frontend_poll(cop_frontend *frontend, bool *busy, cop_error *err);
int64_t
cop_frontend_next_ns(const cop_frontend *frontend);       /* next arrival; INT64_MAX: none known */
bool cop_frontend_finished(const cop_frontend *frontend); /* every request and transfer has ended */

/* Closes the record and releases everything. completed: false marks the record as cut short. */
cop_status cop_frontend_close(cop_frontend *frontend, bool completed, cop_error *err);

#endif
