/* A worker's rank: the worker core with its device and its KV transport. */
#ifndef COP_DRIVE_ENGINE_H
#define COP_DRIVE_ENGINE_H

#include "base/buffer.h"
#include "base/log.h"
#include "config/config.h"
#include "core/cost.h"
#include "drive/message.h"
#include "model/weights.h"
#include "transport/transport.h"

typedef struct cop_engine cop_engine;

/* What each rank measures before the run, for the cost model. */
enum { COP_PROBES = 6 };
typedef struct {
    uint32_t pool_blocks, probes;
    uint64_t block_bytes;
    double tokens[COP_PROBES], pairs[COP_PROBES], ns[COP_PROBES]; /* of engine steps */
    double host_alpha_ns, host_beta_ns; /* moves in from the host tier; 0 without one */
    char device[96], host[64];
} cop_greeting;

/* weights: borrowed. first_rank: rank of worker 0. outbox: one frame buffer for each rank, sent by
 * the caller. Opens the core and the device; not collective. */
cop_status cop_engine_open(cop_engine **out, const cop_bus *bus, const cop_config *cfg,
                           const cop_weights *weights, uint32_t first_rank, cop_buffer *outbox,
                           const cop_log *log, cop_error *err);
struct cop_device *cop_engine_device(const cop_engine *engine);   /* for the transport */
const char *cop_engine_device_identity(const cop_engine *engine); /* see device.h */
size_t cop_engine_block_bytes(const cop_engine *engine);
void cop_engine_close(cop_engine *engine);

/* Runs a few prefills and a decode, and with a host tier some moves, and fills the greeting with
 * their times. */
cop_status cop_engine_probe(cop_engine *engine, cop_greeting *greeting, cop_error *err);

/* kv: what moves blocks of cop_engine_block_bytes; borrowed. clock_to_run_ns: what to add to
 * cop_clock_ns to get the front end's time since the start. */
void cop_engine_start(cop_engine *engine, int64_t clock_to_run_ns);

/* One entry of a frame. COP_ERR_TRANSPORT if it makes no sense. */
cop_status cop_engine_hear(cop_engine *engine, const cop_heard *heard, cop_error *err);

/* Polls device, transport and deadlines. *busy is set if anything happened. */
cop_status cop_engine_poll(cop_engine *engine, bool *busy, cop_error *err);

/* Opens the mover between the pool and the transport, both borrowed; before start. */
void cop_engine_connect(cop_engine *engine, const cop_kv_ops *kv_ops, cop_kv *kv);
struct cop_mover *cop_engine_mover(const cop_engine *engine);

bool cop_engine_finished(const cop_engine *engine); /* told to stop, and nothing left to do */

#endif
