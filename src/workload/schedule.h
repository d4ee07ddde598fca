/* When sessions start and when their turns are due; what is in them is asked from whoever knows.
 *
 * Open loop: every time is fixed in advance. Sessions start by the arrival process; a turn is due
 * its think time after the previous turn was *due*, answered or not, so that a slow server meets
 * the same load as a fast one (no coordinated omission). speedup divides all these gaps.
 *
 * Closed loop: `users` users, each at one session after the other. A user thinks before each turn,
 * counted from the end of the answer before it (from 0 for the first), so at most `users` requests
 * are out at once.
 *
 * Sessions begin in the order of their numbers; the last one is cut so that there are exactly as
 * many requests as promised. Which session is which never depends on time. */
#ifndef COP_WORKLOAD_SCHEDULE_H
#define COP_WORKLOAD_SCHEDULE_H

#include "workload/source.h"

/* Sessions 0, 1, 2, ...: the same answers, whenever and however often they are asked. */
typedef struct {
    uint32_t (*turns)(const void *self, uint64_t session);                /* >= 1 */
    double (*think_s)(const void *self, uint64_t session, uint32_t turn); /* before the turn */
    /* Fills all but id and scheduled_ns. request->tokens is transferred. */
    void (*request)(const void *self, uint64_t session, uint32_t turn, cop_request *request);
    void (*close)(void *self);
} cop_sessions_ops;

typedef struct {
    const cop_sessions_ops *ops;
    void *self;
    uint64_t requests; /* >= 1: how many there are to be, in all */
    /* Bounds of how long it all takes. */
    uint64_t sessions;
    const char *sessions_name; /* for the message: "workload.requests" */
    double longest_turns;      /* of one session */
} cop_sessions;

/* Checks the options that say when: rate, cv, on_s, off_s, think_s, users, and that the whole ends
 * within 30 years. */
cop_status cop_schedule_check(const cop_workload_options *options, const cop_sessions *sessions,
                              cop_error *err);
/* options: checked. sessions->self is transferred. */
void cop_schedule_open(cop_source *out, const cop_workload_options *options,
                       const cop_sessions *sessions);

#endif
