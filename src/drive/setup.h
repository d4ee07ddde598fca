/* From the configuration to the options of each module. */
#ifndef COP_DRIVE_SETUP_H
#define COP_DRIVE_SETUP_H

#include "base/file_map.h"
#include "config/config.h"
#include "coppice.h"
#include "core/router.h"
#include "core/worker.h"
#include "device/device.h"
#include "transport/transport.h"
#include "workload/workload.h"

/* The model of a run: model.path, or model.preset and seed. */
cop_status cop_setup_weights(cop_weights **out, const cop_config *cfg, cop_error *err);
/* threads: compute threads (cfg says 0 for "share the node", which only the cluster can resolve). */
void cop_setup_device(cop_device_options *out, const cop_config *cfg, const cop_weights *weights,
                      uint32_t threads);
/* model.tokenizer, or model.path, whose folder has one; "" if neither is set. Borrowed from cfg. */
const char *cop_setup_tokenizer(const cop_config *cfg);
/* bench.text, mapped. COP_ERR_INVALID if it cannot be opened: a wrong path is bad input. */
cop_status cop_setup_text(cop_file_map *out, const cop_config *cfg, cop_error *err);
void cop_setup_workload(cop_workload_options *out, const cop_config *cfg, uint32_t vocab);
/* device is the caller's to fill in. */
void cop_setup_kv(cop_kv_options *out, const cop_config *cfg, cop_bus *bus, int first_rank,
                  size_t block_bytes);
void cop_setup_worker(cop_worker_options *out, const cop_config *cfg);
/* For the commands that are made of the public library; texts are borrowed from cfg.
 * COP_ERR_INVALID: sizes that it does not take. */
cop_status cop_setup_library(cop_model_options *model, cop_cache_options *cache,
                             const cop_config *cfg, cop_error *err);
/* cost, workers, pool_blocks and max_context are the caller's to fill in. */
void cop_setup_router(cop_router_options *out, const cop_config *cfg);

#endif
