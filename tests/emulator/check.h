/* What compute-sanitizer is to a GPU: where kernels are compiled with the instrumentation of
 * -fsanitize=thread (target coppice_kernels_checked), every access they make comes by here, in the
 * place of that sanitizer's own library.
 *
 * Memory: an access must lie in the thread's stack, in shared memory of the block, in one live
 * allocation of device memory, or in what the launch passed. Memory of the host is none of these.
 *
 * Races in shared memory: two threads of a block touch a byte, one of them writes, and neither a
 * __syncthreads lies between, nor, in one warp, a __syncwarp (a shuffle orders nothing). Atomics do
 * not race with each other. An asynchronous copy writes when it is issued and when it is waited for.
 * A __syncwarp of some lanes counts as one of all: what that hides is not found. */
#ifndef COP_EMULATOR_CHECK_H
#define COP_EMULATOR_CHECK_H

#include <stddef.h>

enum emulator_access { EMULATOR_READ, EMULATOR_WRITE, EMULATOR_ATOMIC };

/* Of the thread that runs; what: for messages. Does nothing outside kernels. */
void emulator_check_access(const void *p, size_t bytes, emulator_access access, const char *what);

/* Accesses to shared memory only, which is known to be that. */
void emulator_check_shared(const void *p, size_t bytes, emulator_access access, const char *what);

/* Whether the program has instrumented code: else shared memory is not watched. */
extern bool emulator_checks;

#endif
