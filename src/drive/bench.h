/* `coppice bench NAME`: each prints a table to `out`, every figure beside its bound. */
#ifndef COP_DRIVE_BENCH_H
#define COP_DRIVE_BENCH_H

#include "base/status.h"
#include "config/config.h"
#include "transport/transport.h"

#include <stdio.h>

/* Linear layers alone, attention alone (where the device has a probe for it) and the whole prefill
 * of bench.tokens tokens, against the measured BF16 peak. */
cop_status cop_bench_prefill(const cop_config *cfg, FILE *out, cop_error *err);
/* bench.sequences sequences at a context of bench.tokens, against the read bandwidth of the same
 * minute; the host time of a step that the device does not hide. */
cop_status cop_bench_decode(const cop_config *cfg, FILE *out, cop_error *err);
/* 256 blocks to host memory and back, against one large copy. */
cop_status cop_bench_tier(const cop_config *cfg, FILE *out, cop_error *err);
/* TTFT of prompts whose system part is cached, against the same prompts cold and what the work saved
 * could give: system prompts of 64, 128, ... bench.tokens tokens. Also as CSV (bench.csv). */
cop_status cop_bench_prompt_cache(const cop_config *cfg, FILE *out, cop_error *err);
/* Logits with int8 weights beside those with weights as they are, at every position of bench.tokens
 * tokens of bench.text: errors, top-1 agreement, divergence, perplexity. */
cop_status cop_bench_quality(const cop_config *cfg, FILE *out, cop_error *err);
/* The router over a Mooncake trace (workload.path): hash, look up, decide, insert; no model. */
cop_status cop_bench_index(const cop_config *cfg, FILE *out, cop_error *err);
/* Rows a second and flush times of the recorder, into record.path or a temporary file. */
cop_status cop_bench_record(const cop_config *cfg, FILE *out, cop_error *err);
/* Trace reading in MB/s (workload.path), against reading the bytes alone. */
cop_status cop_bench_trace(const cop_config *cfg, FILE *out, cop_error *err);
/* Text (bench.text) to tokens and back, cold and with known words, against its regex alone. */
cop_status cop_bench_tokenizer(const cop_config *cfg, FILE *out, cop_error *err);

/* Messages and KV blocks between ranks, against copying the same bytes in memory; with
 * transport.link set, against the link model too. Collective, under mpirun with 2 ranks or more;
 * rank 0 prints. */
cop_status cop_bench_transfer(cop_bus *bus, const cop_config *cfg, FILE *out, cop_error *err);

/* `coppice trace info FILE`: what is in a trace, with the infinite-cache block hit ratio and how it
 * was counted. The format is workload.format where that is mooncake or sharegpt; else the file tells
 * it: it is conversations if it begins with '[', or with '{' and a first field that no Mooncake
 * trace has. Of conversations the tokens are told where model.tokenizer or model.path is set. */
cop_status cop_trace_info(const cop_config *cfg, FILE *out, cop_error *err);

/* The same of a file of conversations. */
cop_status cop_trace_info_text(const cop_config *cfg, FILE *out, cop_error *err);

#endif
