/* The emulator as the other fakes see it: cublasLt and NCCL queue their work with this.
 *
 * Work is deferred: an operation waits in the queue of its stream until some call synchronises or
 * asks, and then the streams that have something to do take turns in random order. One lock guards
 * it all; it is held while operations run, so one runs at a time in a process.
 *
 * Environment: COP_EMULATOR_SEED (order of streams, blocks, warps and lanes; 1 if not given),
 * COP_EMULATOR_FAIL=<call>:<n> (the n-th call of that function fails, counted from 1),
 * COP_EMULATOR_DEVICES, COP_EMULATOR_MEMORY (bytes per device), COP_EMULATOR_MULTIPROCESSORS. */
#ifndef COP_EMULATOR_H
#define COP_EMULATOR_H

#include <cuda_runtime_api.h>
#include <functional>
#include <stddef.h>
#include <stdint.h>

/* Queues an operation on a stream (NULL: the default stream of the current device). When it is at
 * the head, step() is called, again and again with other streams' work between, until it returns
 * true. step() must not block and must not synchronise. On a stream that is being captured the
 * operation goes into the graph, and every launch of it gets a fresh copy of `step`: what the
 * function object holds by value begins anew. */
void emulator_enqueue(cudaStream_t stream, std::function<bool()> step);

/* Runs one ready operation to its end. false: none could be run, those that were tried said that
 * they have to wait (or there are none). */
bool emulator_progress();

/* Whether COP_EMULATOR_FAIL wants this call of `call` to fail; counts the call. */
bool emulator_fails(const char *call);

/* Aborts with a text naming `what` unless [p, p + bytes) lies in one live allocation of device
 * memory. */
void emulator_need_device_memory(const void *p, size_t bytes, const char *what);

/* Prints the text with the seed and, while a kernel runs, its name, block and thread; aborts. */
[[noreturn]] void emulator_abort(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The emulator's source of random numbers (splitmix64). Under its lock. */
uint64_t emulator_random();

/* Begins anew from this seed, in the place of COP_EMULATOR_SEED. */
void emulator_seed(uint64_t seed);

#endif
