/* The generator: made-up sessions (session.h), held when the schedule says (schedule.h). */
#include "workload/schedule.h"
#include "workload/session.h"

#include "base/alloc.h"

#include <stdlib.h>

static uint32_t generator_turns(const void *self, uint64_t session)
{
    cop_session drawn;
    cop_session_draw(self, session, &drawn);
    return drawn.turns;
}

static double generator_think_s(const void *self, uint64_t session, uint32_t turn)
{
    cop_turn drawn;
    cop_turn_draw(self, session, turn, &drawn);
    return drawn.think_s;
}

static void generator_request(const void *self, uint64_t session, uint32_t turn,
                              cop_request *request)
{
    cop_session drawn;
    cop_session_draw(self, session, &drawn);
    cop_session_request(self, &drawn, turn, request);
}

static void generator_close(void *self)
{
    cop_population_fini(self);
    free(self);
}

static const cop_sessions_ops generator_ops = {.turns = generator_turns,
                                               .think_s = generator_think_s,
                                               .request = generator_request,
                                               .close = generator_close};

cop_status cop_generator_open(cop_source *out, const cop_workload_options *o, cop_error *err)
{
    cop_sessions sessions = {.ops = &generator_ops,
                             .requests = o->requests,
                             .sessions = o->requests,
                             .sessions_name = "workload.requests",
                             .longest_turns = COP_SESSION_CUT * o->turns};
    cop_status status = cop_population_check(o, err);
    if (status == COP_OK)
        status = cop_schedule_check(o, &sessions, err);
    if (status != COP_OK)
        return status;
    cop_population *population = cop_malloc(sizeof *population);
    cop_population_init(population, o);
    sessions.self = population;
    cop_schedule_open(out, o, &sessions);
    return COP_OK;
}
