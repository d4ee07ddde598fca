/* Runs the blocks of a kernel on a processor: every CUDA thread is a fiber, a context with a stack
 * of its own, and gives way only where CUDA threads wait for each other.
 *
 *     launch -> blocks, one after another, in shuffled order
 *                 -> warps of a block, in shuffled order, each until all its lanes wait
 *                      -> lanes of a warp, in shuffled order, each until it meets or ends
 *
 * Lanes meet at a warp operation (shuffle, mma, ...): the last one to come computes it for all. The
 * threads of a block meet at a barrier. Between meetings no order is promised, as on a GPU, and the
 * seed changes it: a missing barrier shows as a result that depends on the seed.
 *
 * Shared memory holds 0xff bytes (NaN) when a block begins. An asynchronous copy fills its target
 * with 0xff when it is issued and with the data when its group is waited for: neither the old nor
 * the new bytes can be read in between. */
#ifndef COP_EMULATOR_EXECUTOR_H
#define COP_EMULATOR_EXECUTOR_H

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>
#include <vector>

/* A copy under way, of 16 bytes. */
struct emulator_copy {
    void *shared;
    const void *global;
    uint32_t group; /* its number in its thread */
    bool wanted;    /* false: zeros */
};

/* Where in the source a thread is, for messages. */
struct emulator_place {
    const char *file;
    int line;
};

struct alignas(64) emulator_thread {
    void *stack; /* its stack pointer while it does not run */
    uint3 index;
    uint32_t lane, warp;
    enum { RUNS, MEETS, AT_BARRIER, ENDED } state;
    const char *operation; /* of the meeting it waits for */
    uint32_t mask;         /* likewise */
    emulator_place place;  /* where it waits */
    uint32_t syncs;        /* __syncwarp it has passed */
    uint32_t group;        /* that the next commit closes */
    std::vector<emulator_copy> copies;
};

struct emulator_body;

/* The block that runs. */
struct emulator_block_state {
    uint3 index;
    dim3 size, grid;
    unsigned char *shared; /* dynamic */
    size_t shared_bytes;
    const char *kernel; /* NULL: no kernel runs */
    uint32_t epoch;     /* grows with every barrier and every block */
    const emulator_body *body;
};

extern emulator_thread *emulator_self;
extern emulator_block_state emulator_block;

/* A warp operation. arguments[lane]: what each lane of `mask` brought. */
struct emulator_operation {
    const char *name;
    bool whole; /* all 32 lanes must take part */
    void (*compute)(uint32_t mask, void *const *arguments);
};

/* Waits for the other lanes of `mask` (those that have not ended). */
void emulator_meet(uint32_t mask, const emulator_operation *operation, void *argument,
                   emulator_place place);

/* Waits for the block. Returns how many of its threads came with `vote`. */
int emulator_barrier(bool vote, emulator_place place);

/* Lanes of the warp that have not ended. */
uint32_t emulator_active_mask();

/* Atomics tell where they are going; see check.h. */
void emulator_atomic_access(const void *p, size_t bytes);

void emulator_copy_issue(void *shared, const void *global, bool wanted);
void emulator_copy_commit();
void emulator_copy_wait(uint32_t groups);

bool emulator_in_stacks(const void *p);

/* Aborts unless `bytes` from p on are shared memory of the block, and p is aligned to them. */
void emulator_need_shared_memory(const void *p, size_t bytes, const char *what);
uint32_t emulator_shared_address(const void *p);

/* The row of a matrix that this lane names: 16 bytes of shared memory. */
void emulator_read_row(const void *row, const char *what);

/* What each thread runs: enter(parameters), which calls the kernel with a copy of them. The bytes
 * are borrowed for the call of emulator_launch. */
struct emulator_body {
    void (*enter)(const void *parameters);
    const void *parameters;
    size_t bytes;
};

/* Queues a kernel. call: text of the launch, begins with the kernel's name. kernel: its address, for
 * the module it lies in. */
cudaError_t emulator_launch(const char *call, const void *kernel, dim3 grid, dim3 block,
                            size_t shared_bytes, cudaStream_t stream, emulator_body body);

/* Warp operations; each lane's argument is the struct of that name. */
struct emulator_shuffle_argument {
    uint64_t value, result;
    uint32_t source; /* lane */
};
struct emulator_vote_argument {
    uint64_t value;
    uint32_t result;
    bool predicate;
};
struct emulator_reduce_argument {
    uint32_t value, result;
};
struct emulator_mma_argument {
    float *c;
    const uint32_t *a, *b;
};
struct emulator_load_argument {
    uint32_t *r;
    const void *row;
};
extern const emulator_operation emulator_shuffle, emulator_ballot, emulator_match,
    emulator_syncwarp, emulator_mma, emulator_load, emulator_load_transposed;
extern const emulator_operation emulator_reduce_add, emulator_reduce_min, emulator_reduce_max,
    emulator_reduce_and, emulator_reduce_or, emulator_reduce_xor, emulator_reduce_min_signed,
    emulator_reduce_max_signed;

#endif
