/* From what a worker tells of a request to its row in the record: stamps, parts, classes, gains. */
#ifndef COP_DRIVE_ACCOUNT_H
#define COP_DRIVE_ACCOUNT_H

#include "core/cost.h"
#include "core/worker.h"
#include "record/record.h"

#include <stdint.h>

/* Sets every stamp from received_ns on and the parts of TTFT. arrived_ns and routed_ns are set, and
 * now_ns is when the first token became known: those three are the front end's own. The worker's
 * stamps carry the error of its clock's offset, so each is moved between the one before it and
 * now_ns: every part is then >= 0, and TTFT does not depend on the worker's clock. */
void cop_account_stamps(cop_requests_row *row, const cop_request_story *story, int64_t now_ns);

/* Miss class of a row whose hits and matches are set: where most of its computed tokens come from.
 * The matches form a ladder from the infinite cache down to what the request found,
 *
 *     whole blocks of the prompt >= ideal >= best >= predicted >= resident >= hit
 *             cold             capacity  elsewhere  stale    self-inflicted
 *
 * and each step down is a class. A step below the hit lost nothing, since a transfer or a block that
 * was still being computed made up for it. What is beyond whole blocks is the tail. */
uint8_t cop_account_miss(const cop_requests_row *row, uint32_t block_tokens);

/* Recompute avoided by the tokens that the request's transfer brought, less the time that the
 * request waited for it: from its receipt to the end of the transfer or of its patience. */
double cop_account_gain(const cop_cost *cost, const cop_requests_row *row,
                        int64_t transfer_ended_ns);

#endif
