/* What sessions of the generator are about. Nothing here knows time: session k has its own random
 * streams, so it is the same session whenever it runs and whoever runs beside it.
 *
 *     prompt of turn t:  [system] [document] user 0, answer 0, ..., user t-1, answer t-1, user t
 *     then, given:       answer t
 *
 * so that the prompt and answer of a turn are exactly how the prompt of the next turn begins.
 * System prompt p is popular as 1 / (p + 1)^system_zipf; documents are equally popular; lengths of
 * messages and answers, and turns of a session, are geometric, and cut at COP_SESSION_CUT times
 * their mean, which one draw in 9 million reaches. */
#ifndef COP_WORKLOAD_SESSION_H
#define COP_WORKLOAD_SESSION_H

#include "workload/workload.h"

enum { COP_SESSION_CUT = 16, COP_NO_TEXT = UINT32_MAX };

typedef struct {
    cop_workload_options options;
    double *system_cumulative; /* f64[system_prompts]: P(prompt <= p); owned */
} cop_population;

typedef struct {
    uint64_t index;
    uint64_t tenant;
    uint32_t system, document; /* COP_NO_TEXT: none */
    uint32_t turns;            /* >= 1 */
} cop_session;

typedef struct {
    uint32_t user_tokens, answer_tokens; /* >= 1 */
    double think_s;                      /* before the turn */
} cop_turn;

/* options: checked by cop_population_check. */
cop_status cop_population_check(const cop_workload_options *options, cop_error *err);
void cop_population_init(cop_population *population, const cop_workload_options *options);
void cop_population_fini(cop_population *population);

void cop_session_draw(const cop_population *population, uint64_t index, cop_session *out);
void cop_turn_draw(const cop_population *population, uint64_t session, uint32_t turn,
                   cop_turn *out);

/* Fills turn, tenant, session, lengths and tokens (transferred: u32[prompt + output]) of the
 * request that is turn `turn` of the session. */
void cop_session_request(const cop_population *population, const cop_session *session,
                         uint32_t turn, cop_request *out);

#endif
