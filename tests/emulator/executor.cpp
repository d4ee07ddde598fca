/* Fibers, and the order in which they run; see executor.h. */
#include "executor.h"
#include "check.h"
#include "emulator.h"
#include "faults.h"
#include "fiber.h"
#include "runtime.h"
#include "shared_ranges.h"
#include <algorithm>
#include <memory>
#include <string.h>
#include <string>
#include <sys/mman.h>

emulator_thread *emulator_self;
emulator_block_state emulator_block;

namespace
{

constexpr uint32_t LANES = 32;
constexpr uint32_t MOST_THREADS = 1024;
constexpr size_t MOST_SHARED = 227 * 1024; /* of a block, from sm_90 on */

/* Lanes that wait for each other. Nobody has come: free, to be used again. */
struct meeting {
    uint32_t mask, arrived;
    const emulator_operation *operation;
    void *arguments[LANES];
};

/* Lanes are numbered as usual; `ready` counts positions in this warp's own shuffled order. */
struct warp {
    uint32_t alive, at_barrier;
    uint32_t ready;
    uint8_t lane_at[LANES], position_of[LANES];
    meeting meetings[LANES]; /* those under way are among the first of them */
};

const emulator_body *body;
std::vector<emulator_thread> threads;
std::vector<warp> warps;
std::vector<uint32_t> runnable; /* warps with a ready lane, the current one among them or not */
uint32_t current;               /* warp */
uint32_t alive, waiting, votes; /* threads of the block */
int last_votes;
emulator_place barrier_place;
uint32_t barrier_thread;
void *launcher; /* stack pointer of whoever launched */

emulator_thread &thread_of(uint32_t warp_number, uint32_t lane)
{
    return threads[warp_number * LANES + lane];
}

/* The position of a lane is lane * odd + offset: cheap, and different enough. */
void shuffle_lanes(warp &w)
{
    uint64_t random = emulator_random();
    uint32_t odd = (uint32_t)random | 1, offset = (uint32_t)(random >> 32);
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t position = (lane * odd + offset) % LANES;
        w.position_of[lane] = (uint8_t)position;
        w.lane_at[position] = (uint8_t)lane;
    }
}

void make_ready(warp &w, uint32_t lanes)
{
    for (; lanes; lanes &= lanes - 1)
        w.ready |= 1u << w.position_of[__builtin_ctz(lanes)];
}

std::string describe(const emulator_thread &t)
{
    char text[256];
    int length = snprintf(text, sizeof text, "  thread (%u,%u,%u), lane %u of warp %u: ", t.index.x,
                          t.index.y, t.index.z, t.lane, t.warp);
    size_t left = sizeof text - (size_t)length;
    if (t.state == emulator_thread::MEETS)
        snprintf(text + length, left, "at %s:%d, %s of lanes %08x\n", t.place.file, t.place.line,
                 t.operation, t.mask);
    else if (t.state == emulator_thread::AT_BARRIER)
        snprintf(text + length, left, "at %s:%d, barrier\n", t.place.file, t.place.line);
    else
        snprintf(text + length, left, t.state == emulator_thread::ENDED ? "ended\n" : "runs\n");
    return text;
}

/* Every thread waits and none can go on: says where each place has its first thread. */
[[noreturn]] void abort_deadlock()
{
    std::string text;
    const emulator_thread *before = NULL;
    int told = 0;
    for (const emulator_thread &t : threads) {
        bool same = before && before->warp == t.warp && before->state == t.state &&
                    before->place.line == t.place.line && before->mask == t.mask;
        if (!same && told++ < 24)
            text += describe(t);
        before = &t;
    }
    emulator_abort("deadlock: these threads wait for others that never come "
                   "(one line for neighbours that wait alike)\n%s",
                   text.c_str());
}

void switch_to(emulator_thread &next)
{
    emulator_thread *before = emulator_self;
    if (&next == before)
        return;
    emulator_self = &next;
    emulator_switch(&before->stack, next.stack);
}

/* Gives the processor to the next lane, of this warp while it has one. */
void next_lane()
{
    while (!warps[current].ready) {
        auto place = std::find(runnable.begin(), runnable.end(), current);
        if (place != runnable.end()) {
            *place = runnable.back();
            runnable.pop_back();
        }
        if (runnable.empty()) {
            if (alive > 0)
                abort_deadlock();
            emulator_switch(&emulator_self->stack, launcher);
        }
        current = runnable[emulator_random() % runnable.size()];
    }
    warp &w = warps[current];
    uint32_t position = (uint32_t)__builtin_ctz(w.ready);
    w.ready &= w.ready - 1;
    switch_to(thread_of(current, w.lane_at[position]));
}

/* Now and then another warp overtakes in the middle. */
void perhaps_overtaken()
{
    if (runnable.size() < 2 || emulator_random() % 16)
        return;
    make_ready(warps[current], 1u << emulator_self->lane);
    current = runnable[emulator_random() % runnable.size()];
    next_lane();
}

void release_barrier()
{
    last_votes = (int)votes;
    waiting = votes = 0;
    emulator_block.epoch++;
    runnable.clear();
    for (uint32_t i = 0; i < warps.size(); i++) {
        warp &w = warps[i];
        if (w.alive)
            runnable.push_back(i);
        shuffle_lanes(w);
        w.ready = 0;
        make_ready(w, w.at_barrier);
        w.at_barrier = 0;
    }
    current = runnable[emulator_random() % runnable.size()];
}

/* Computes the meeting if nobody is missing; its lanes but this one may go on. */
bool complete(warp &w, meeting &m)
{
    uint32_t arrived = m.arrived;
    if (arrived != (m.mask & w.alive))
        return false;
    if (m.operation->whole && arrived != UINT32_MAX)
        emulator_abort("%s needs all 32 lanes of the warp, has %08x", m.operation->name, arrived);
    m.operation->compute(arrived, m.arguments);
    m.arrived = 0;
    if (m.operation == &emulator_syncwarp)
        for (uint32_t left = w.alive; left; left &= left - 1)
            thread_of(emulator_self->warp, (uint32_t)__builtin_ctz(left)).syncs++;
    make_ready(w, arrived & ~(1u << emulator_self->lane));
    return true;
}

/* The meeting of these lanes, or a free one. */
meeting &find_meeting(warp &w, uint32_t mask, const emulator_operation *operation,
                      emulator_place place)
{
    meeting *found = NULL;
    for (meeting &m : w.meetings) {
        if (m.arrived && m.mask == mask) {
            found = &m;
            break;
        }
        if (!m.arrived && !found)
            found = &m;
    }
    if (found->arrived && found->operation != operation)
        emulator_abort("%s:%d: %s meets other lanes of warp %u at %s", place.file, place.line,
                       operation->name, emulator_self->warp, found->operation->name);
    found->mask = mask;
    found->operation = operation;
    return *found;
}

void check_stack(uint32_t number);

void end_thread()
{
    emulator_thread &t = *emulator_self;
    warp &w = warps[t.warp];
    t.state = emulator_thread::ENDED;
    check_stack(t.warp * LANES + t.lane);
    w.alive &= ~(1u << t.lane);
    alive--;
    for (meeting &m : w.meetings)
        if (m.arrived)
            complete(w, m);
    if (alive && waiting == alive)
        release_barrier();
    next_lane();
}

void thread_main()
{
    body->enter(body->parameters);
    end_thread();
}

/* Stacks lie side by side in large pages: the lanes of a block walk through all of them, again and
 * again. Their tops are staggered, so that lanes that do the same do not meet in the same lines of
 * the cache. A mark at the far end tells whether a thread needed more. */
constexpr size_t STACK = 64 * 1024, LARGE_PAGE = 2 << 20;
constexpr uint64_t STACK_MARK = 0x5ca1ab1e0ddba11u;
unsigned char *stacks;

void allocate_stacks()
{
    void *all = NULL;
    if (posix_memalign(&all, LARGE_PAGE, MOST_THREADS * STACK))
        emulator_abort("no memory for stacks");
    madvise(all, MOST_THREADS * STACK, MADV_HUGEPAGE);
    stacks = (unsigned char *)all;
}

void *fresh_stack(uint32_t number)
{
    if (!stacks)
        allocate_stacks();
    unsigned char *bottom = stacks + number * STACK;
    memcpy(bottom, &STACK_MARK, sizeof STACK_MARK);
    return emulator_new_fiber(bottom + STACK - number % 29 * 576, thread_main);
}

void check_stack(uint32_t number)
{
    if (memcmp(stacks + number * STACK, &STACK_MARK, sizeof STACK_MARK))
        emulator_abort("this thread needs a stack of more than %zu bytes", STACK - 16384);
}

/* Dynamic shared memory, with a page behind it that nobody may touch. */
unsigned char *dynamic_shared(size_t bytes)
{
    constexpr size_t most = (MOST_SHARED + 4095) / 4096 * 4096;
    static unsigned char *memory;
    if (!memory) {
        memory = (unsigned char *)mmap(NULL, most + 4096, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            emulator_abort("no memory for shared memory");
        mprotect(memory + most, 4096, PROT_NONE);
    }
    return memory + most - (bytes + 127) / 128 * 128;
}

void begin_block()
{
    dim3 size = emulator_block.size;
    alive = size.x * size.y * size.z;
    waiting = votes = 0;
    memset(emulator_block.shared, 0xff, (emulator_block.shared_bytes + 127) / 128 * 128);
    emulator_poison_shared_ranges();
    emulator_block.epoch++;
    threads.resize(alive);
    warps.resize((alive + LANES - 1) / LANES);
    for (warp &w : warps) {
        w.alive = w.at_barrier = w.ready = 0;
        for (meeting &m : w.meetings)
            m.mask = m.arrived = 0;
        shuffle_lanes(w);
    }
    for (uint32_t i = 0; i < alive; i++) {
        emulator_thread &t = threads[i];
        t.index.x = i % size.x;
        t.index.y = i / size.x % size.y;
        t.index.z = i / size.x / size.y;
        t.lane = i % LANES;
        t.warp = i / LANES;
        t.stack = fresh_stack(i);
        t.state = emulator_thread::RUNS;
        t.place = {"", 0};
        t.group = t.syncs = 0;
        t.copies.clear();
        warps[t.warp].alive |= 1u << t.lane;
    }
    runnable.clear();
    for (uint32_t i = 0; i < warps.size(); i++) {
        make_ready(warps[i], warps[i].alive);
        runnable.push_back(i);
    }
}

void run_block()
{
    begin_block();
    current = runnable[emulator_random() % runnable.size()];
    warp &w = warps[current];
    uint32_t position = (uint32_t)__builtin_ctz(w.ready);
    w.ready &= w.ready - 1;
    emulator_self = &thread_of(current, w.lane_at[position]);
    emulator_switch(&launcher, emulator_self->stack);
    emulator_self = NULL;
}

} // namespace

void emulator_meet(uint32_t mask, const emulator_operation *operation, void *argument,
                   emulator_place place)
{
    emulator_thread &t = *emulator_self;
    warp &w = warps[t.warp];
    uint32_t bit = 1u << t.lane;
    if (!(mask & bit))
        emulator_abort("%s:%d: %s: lane %u is not in its own mask %08x", place.file, place.line,
                       operation->name, t.lane, mask);
    meeting *m = &w.meetings[0]; /* nearly always */
    if (m->mask != mask || m->operation != operation)
        m = &find_meeting(w, mask, operation, place);
    m->arrived |= bit;
    m->arguments[t.lane] = argument;
    if (complete(w, *m)) {
        perhaps_overtaken();
        return;
    }
    t.state = emulator_thread::MEETS;
    t.operation = operation->name;
    t.mask = mask;
    t.place = place;
    next_lane();
    t.state = emulator_thread::RUNS;
}

bool emulator_in_stacks(const void *p)
{
    return (uintptr_t)p - (uintptr_t)stacks < MOST_THREADS * STACK;
}

int emulator_barrier(bool vote, emulator_place place)
{
    emulator_thread &t = *emulator_self;
    if (waiting == 0) {
        barrier_place = place;
        barrier_thread = t.warp * LANES + t.lane;
    } else if (barrier_place.line != place.line || strcmp(barrier_place.file, place.file)) {
        const emulator_thread &first = threads[barrier_thread];
        emulator_abort("divergent barrier: this thread is at %s:%d, thread (%u,%u,%u) at %s:%d",
                       place.file, place.line, first.index.x, first.index.y, first.index.z,
                       barrier_place.file, barrier_place.line);
    }
    t.state = emulator_thread::AT_BARRIER;
    t.place = place;
    warps[t.warp].at_barrier |= 1u << t.lane;
    waiting++;
    votes += vote;
    if (waiting == alive)
        release_barrier();
    next_lane();
    t.state = emulator_thread::RUNS;
    return last_votes;
}

uint32_t emulator_active_mask()
{
    return warps[emulator_self->warp].alive;
}

uint32_t emulator_shared_address(const void *p)
{
    return (uint32_t)((uintptr_t)p - (uintptr_t)emulator_block.shared);
}

void emulator_need_shared_memory(const void *p, size_t bytes, const char *what)
{
    const unsigned char *begin = (const unsigned char *)p;
    if ((uintptr_t)p % bytes)
        emulator_abort("%s: address %p is not a multiple of %zu", what, p, bytes);
    const unsigned char *dynamic = emulator_block.shared;
    if (begin >= dynamic && begin + bytes <= dynamic + emulator_block.shared_bytes)
        return;
    if (!emulator_in_shared_ranges(begin, bytes))
        emulator_abort("%s: address %p (%td from the begin of dynamic shared memory of %zu bytes) "
                       "is not shared memory of this block",
                       what, p, begin - dynamic, emulator_block.shared_bytes);
}

void emulator_read_row(const void *row, const char *what)
{
    emulator_need_shared_memory(row, 16, what);
    emulator_check_shared(row, 16, EMULATOR_READ, what);
}

void emulator_copy_issue(void *shared, const void *global, bool wanted)
{
    emulator_need_shared_memory(shared, 16, "asynchronous copy");
    if (wanted && (uintptr_t)global % 16)
        emulator_abort("asynchronous copy: global address %p is not a multiple of 16", global);
    if (wanted)
        emulator_need_device_memory(global, 16, "asynchronous copy");
    emulator_check_shared(shared, 16, EMULATOR_WRITE, "asynchronous copy, issued,");
    memset(shared, 0xff, 16);
    emulator_self->copies.push_back({shared, global, emulator_self->group, wanted});
}

void emulator_copy_commit()
{
    emulator_self->group++;
}

void emulator_copy_wait(uint32_t groups)
{
    emulator_thread &t = *emulator_self;
    size_t done = 0;
    while (done < t.copies.size() && t.copies[done].group + groups < t.group) {
        const emulator_copy &copy = t.copies[done++];
        emulator_check_shared(copy.shared, 16, EMULATOR_WRITE, "asynchronous copy, done,");
        if (copy.wanted)
            memcpy(copy.shared, copy.global, 16);
        else
            memset(copy.shared, 0, 16);
    }
    t.copies.erase(t.copies.begin(), t.copies.begin() + (ptrdiff_t)done);
}

static void run_kernel(const char *name, dim3 grid, dim3 block, size_t shared_bytes)
{
    emulator_faults catches;
    std::vector<uint32_t> order((size_t)grid.x * grid.y * grid.z);
    for (size_t i = 0; i < order.size(); i++) {
        size_t other = emulator_random() % (i + 1);
        order[i] = order[other];
        order[other] = (uint32_t)i;
    }
    emulator_block.size = block;
    emulator_block.grid = grid;
    emulator_block.shared = dynamic_shared(shared_bytes);
    emulator_block.shared_bytes = shared_bytes;
    emulator_block.kernel = name;
    emulator_block.body = body;
    for (uint32_t number : order) {
        emulator_block.index.x = number % grid.x;
        emulator_block.index.y = number / grid.x % grid.y;
        emulator_block.index.z = number / grid.x / grid.y;
        run_block();
    }
    emulator_block.kernel = NULL;
}

cudaError_t emulator_launch(const char *call, const void *kernel, dim3 grid, dim3 block,
                            size_t shared_bytes, cudaStream_t stream, emulator_body what)
{
    emulator_call launch("cudaLaunchKernel");
    if (launch.fails)
        return launch.end(launch.failure);
    uint64_t count = (uint64_t)block.x * block.y * block.z;
    if (count == 0 || count > MOST_THREADS || block.z > 64 || grid.x == 0 || grid.y == 0 ||
        grid.z == 0 || grid.y > 65535 || grid.z > 65535)
        return launch.end(cudaErrorInvalidConfiguration);
    if (shared_bytes > MOST_SHARED)
        return launch.end(cudaErrorInvalidValue);
    if (!emulator_stream(stream))
        return launch.end(cudaErrorInvalidResourceHandle);
    emulator_add_shared_ranges(kernel);
    int depth = 0;
    const char *end = call; /* of the kernel's name: the first comma that is not a template's */
    while (*end && (depth > 0 || *end != ',')) {
        depth += (*end == '<') - (*end == '>');
        end++;
    }
    std::string name(call, end);
    if (emulator_must_be_loaded(kernel))
        emulator_abort("%s is launched and was not loaded: cop_cuda_load_kernels", name.c_str());
    const unsigned char *bytes = (const unsigned char *)what.parameters;
    auto parameters = std::make_shared<std::vector<unsigned char>>(bytes, bytes + what.bytes);
    emulator_enqueue(stream, [=] {
        emulator_body mine = {what.enter, parameters->data(), what.bytes};
        body = &mine;
        run_kernel(name.c_str(), grid, block, shared_bytes);
        return true;
    });
    return cudaSuccess;
}
