/* The fake NCCL between processes, which are forked before anything of CUDA is called, and between
 * threads of one. */
#include "emulator.h"
#include "test_fakes.h"

#include <atomic>
#include <dirent.h>
#include <functional>
#include <nccl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

/* A rank runs in a process or a thread of its own, where cmocka can't catch a failure. */
#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                       \
        }                                                                   \
    } while (0)
#define CUDA_OK(call) CHECK((call) == cudaSuccess)
#define OK(call)      CHECK((call) == ncclSuccess)

/* ---- ranks ------------------------------------------------------------------------------ */

/* For what a rank does, or does not, after a while. */
static void pause_ms(long ms)
{
    const timespec t = {0, ms * 1000000};
    nanosleep(&t, NULL);
}

/* What a rank has: a stream, a communicator; and a place where it meets the others outside NCCL. */
struct rank_of {
    int rank, ranks;
    ncclUniqueId id;
    std::atomic<int> *met; /* shared between processes */
    ncclComm_t comm = NULL;
    cudaStream_t stream = NULL;

    void join()
    {
        CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        OK(ncclCommInitRank(&comm, ranks, id, rank));
    }
    void leave()
    {
        OK(ncclCommDestroy(comm));
        CUDA_OK(cudaStreamDestroy(stream));
    }
    ncclResult_t error()
    {
        ncclResult_t result;
        OK(ncclCommGetAsyncError(comm, &result));
        return result;
    }
    void meet()
    {
        const int before = (*met)++;
        while (*met < (before / ranks + 1) * ranks)
            pause_ms(1);
    }
    bool idle()
    {
        const cudaError_t status = cudaStreamQuery(stream);
        CHECK(status == cudaSuccess || status == cudaErrorNotReady);
        return status == cudaSuccess;
    }
};

typedef std::function<void(rank_of *)> rank_function;

static bool empty_folder(const char *path)
{
    int entries = 0;
    DIR *folder = opendir(path);
    while (readdir(folder))
        entries++;
    closedir(folder);
    return entries == 2; /* itself and its parent */
}

/* How each of them ended, as waitpid says it. The folder of the sockets is gone afterwards, unless
 * a rank may die. Ranks are on hosts of their own, unless said. */
static std::vector<int> run_ranks(int ranks, const rank_function &run, bool one_host = false,
                                  bool may_die = false)
{
    char folder[] = "/tmp/test-fakes-XXXXXX";
    assert_non_null(mkdtemp(folder));
    setenv("TMPDIR", folder, 1);
    ncclUniqueId id;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    void *met = mmap(NULL, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(met != MAP_FAILED);
    std::vector<pid_t> children;
    for (int rank = 0; rank < ranks; rank++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL); /* cmocka's own */
            alarm(60);                /* a rank that hangs */
            emulator_seed((uint64_t)rank + 1);
            if (!one_host)
                setenv("NCCL_HOSTID", ("host-" + std::to_string(rank)).c_str(), 1);
            rank_of r = {rank, ranks, id, static_cast<std::atomic<int> *>(met)};
            run(&r);
            _exit(0);
        }
        children.push_back(child);
    }
    std::vector<int> ends;
    for (pid_t child : children) {
        int status;
        waitpid(child, &status, 0);
        ends.push_back(status);
    }
    if (!may_die)
        assert_true(empty_folder(folder));
    assert_int_equal(system(("rm -rf " + std::string(folder)).c_str()), 0);
    unsetenv("TMPDIR");
    munmap(met, sizeof(std::atomic<int>));
    return ends;
}

static void all_succeed(int ranks, const rank_function &run, bool one_host = false)
{
    for (int status : run_ranks(ranks, run, one_host))
        assert_int_equal(status, 0);
}

/* ---- buffers ---------------------------------------------------------------------------- */

/* Device memory, which the host can read here; NaN-poisoned when new. */
struct buffer {
    unsigned char *data = NULL;
    size_t bytes;

    explicit buffer(size_t size) : bytes(size)
    {
        CUDA_OK(cudaMalloc((void **)&data, bytes ? bytes : 1));
    }
    buffer(const buffer &) = delete;
    buffer(buffer &&other) : data(other.data), bytes(other.bytes)
    {
        other.data = NULL;
    }
    ~buffer()
    {
        if (data)
            CUDA_OK(cudaFree(data));
    }
    /* Every byte tells who sent which message to whom, and where it lies in it. */
    static unsigned char pattern(int from, int to, int message, size_t i)
    {
        return (unsigned char)((i * 31 + i / 256 * 7) ^ (size_t)(from * 101 + to * 53 + message));
    }
    void fill(int from, int to, int message)
    {
        for (size_t i = 0; i < bytes; i++)
            data[i] = pattern(from, to, message, i);
    }
    bool holds(int from, int to, int message) const
    {
        for (size_t i = 0; i < bytes; i++)
            if (data[i] != pattern(from, to, message, i))
                return false;
        return true;
    }
    bool untouched() const
    {
        for (size_t i = 0; i < bytes; i++)
            if (data[i] != 0xff)
                return false;
        return true;
    }
};

/* More than a socket holds, an odd number, one, none. */
static const size_t sizes[] = {3000001, 4096, 1, 0, 65537};
enum { MESSAGES = sizeof sizes / sizeof *sizes };

/* ---- transfers -------------------------------------------------------------------------- */

/* Both directions at once, several messages each. */
void nccl_exchanges(void **)
{
    all_succeed(2, [](rank_of *r) {
        r->join();
        const int peer = 1 - r->rank;
        std::vector<buffer> out, in;
        for (size_t bytes : sizes) {
            out.emplace_back(bytes);
            in.emplace_back(bytes);
        }
        OK(ncclGroupStart());
        for (int i = 0; i < MESSAGES; i++) {
            out[i].fill(r->rank, peer, i);
            OK(ncclSend(out[i].data, sizes[i], ncclInt8, peer, r->comm, r->stream));
            OK(ncclRecv(in[i].data, sizes[i], ncclInt8, peer, r->comm, r->stream));
        }
        CHECK(in[0].untouched());
        OK(ncclGroupEnd());
        CHECK(in[0].untouched()); /* it waits for the stream */
        CUDA_OK(cudaStreamSynchronize(r->stream));
        for (int i = 0; i < MESSAGES; i++)
            CHECK(in[i].holds(peer, r->rank, i));
        CHECK(r->error() == ncclSuccess);
        r->leave();
    });
}

/* Three ranks, every one to every one and to itself, round after round. */
void nccl_all_to_all(void **)
{
    all_succeed(3, [](rank_of *r) {
        r->join();
        for (int round = 0; round < 20; round++) {
            std::vector<buffer> out, in;
            OK(ncclGroupStart());
            for (int peer = 0; peer < 3; peer++) {
                const size_t count = 1000 + 97 * (size_t)round;
                out.emplace_back(count * 4);
                in.emplace_back(count * 4);
                out[peer].fill(r->rank, peer, round);
                OK(ncclRecv(in[peer].data, count, ncclFloat32, peer, r->comm, r->stream));
                OK(ncclSend(out[peer].data, count, ncclFloat32, peer, r->comm, r->stream));
            }
            OK(ncclGroupEnd());
            CUDA_OK(cudaStreamSynchronize(r->stream));
            for (int peer = 0; peer < 3; peer++)
                CHECK(in[peer].holds(peer, r->rank, round));
        }
        r->leave();
    });
}

/* Groups of one communicator on two streams, whose order the emulator draws: they run as they were
 * queued, or sizes wouldn't match. */
void nccl_keeps_order(void **)
{
    all_succeed(2, [](rank_of *r) {
        r->join();
        cudaStream_t other;
        CUDA_OK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
        std::vector<buffer> buffers;
        for (int i = 0; i < 40; i++) {
            buffers.emplace_back((size_t)i * 1003 + 1);
            buffer *b = &buffers.back();
            const cudaStream_t stream = (i * (r->rank + 1)) % 3 ? r->stream : other;
            if (r->rank == 0) {
                b->fill(0, 1, i);
                OK(ncclSend(b->data, b->bytes, ncclUint8, 1, r->comm, stream));
            } else {
                OK(ncclRecv(b->data, b->bytes, ncclUint8, 0, r->comm, stream));
            }
        }
        CUDA_OK(cudaDeviceSynchronize());
        for (int i = 0; i < 40; i++)
            CHECK(buffers[i].holds(0, 1, i));
        CUDA_OK(cudaStreamDestroy(other));
        r->leave();
    });
}

/* What is sent is what the stream's earlier work wrote; what follows sees what was received. */
void nccl_follows_streams(void **)
{
    all_succeed(2, [](rank_of *r) {
        r->join();
        buffer ready(1 << 20), wire(1 << 20), end(1 << 20);
        ready.fill(r->rank, 0, 0);
        if (r->rank == 0) {
            CUDA_OK(cudaMemcpyAsync(wire.data, ready.data, ready.bytes, cudaMemcpyDeviceToDevice,
                                    r->stream));
            OK(ncclSend(wire.data, wire.bytes, ncclInt8, 1, r->comm, r->stream));
            CUDA_OK(cudaMemsetAsync(wire.data, 0, wire.bytes, r->stream));
        } else {
            OK(ncclRecv(wire.data, wire.bytes, ncclInt8, 0, r->comm, r->stream));
            CUDA_OK(cudaMemcpyAsync(end.data, wire.data, end.bytes, cudaMemcpyDeviceToDevice,
                                    r->stream));
        }
        CUDA_OK(cudaStreamSynchronize(r->stream));
        CHECK(r->rank == 0 || end.holds(0, 0, 0));
        r->leave();
    });
}

/* Two sends that both come before the receives hang, as on GPUs when nothing buffers them. */
void nccl_sends_without_receives_wait(void **)
{
    all_succeed(2, [](rank_of *r) {
        r->join();
        buffer out(64), in(64);
        OK(ncclSend(out.data, out.bytes, ncclInt8, 1 - r->rank, r->comm, r->stream));
        OK(ncclRecv(in.data, in.bytes, ncclInt8, 1 - r->rank, r->comm, r->stream));
        for (int i = 0; i < 50; i++, pause_ms(2))
            CHECK(!r->idle());
        CHECK(r->error() == ncclSuccess);
        CHECK(in.untouched());
        r->meet(); /* or the other takes the abort for a death */
        OK(ncclCommAbort(r->comm));
        CUDA_OK(cudaStreamSynchronize(r->stream));
    });
}

/* ---- faults ----------------------------------------------------------------------------- */

/* A peer that dies, when nothing waits for it or in the middle of a group. */
void nccl_sees_death(void **)
{
    for (bool waiting : {false, true}) {
        const std::vector<int> ends = run_ranks(
            2,
            [waiting](rank_of *r) {
                r->join();
                buffer b(4 << 20), never(1);
                if (r->rank == 1) {
                    OK(ncclSend(b.data, b.bytes, ncclInt8, 0, r->comm, r->stream));
                    for (int i = 0; i < 20 && waiting; i++, pause_ms(1))
                        emulator_progress(); /* some of it */
                    kill(getpid(), SIGKILL);
                }
                if (waiting) {
                    OK(ncclGroupStart());
                    OK(ncclRecv(b.data, b.bytes, ncclInt8, 1, r->comm, r->stream));
                    OK(ncclRecv(never.data, never.bytes, ncclInt8, 1, r->comm, r->stream));
                    OK(ncclGroupEnd());
                }
                while (r->error() == ncclSuccess)
                    CHECK(r->idle() == !waiting);
                CHECK(r->error() == ncclRemoteError);
                CHECK(strstr(ncclGetLastError(r->comm), "rank 1"));
                CHECK(r->idle() == !waiting); /* the error ends nothing */
                CHECK(ncclSend(b.data, 1, ncclInt8, 1, r->comm, r->stream) == ncclRemoteError);
                OK(ncclCommAbort(r->comm));
                CHECK(!waiting || cudaStreamSynchronize(r->stream) == cudaSuccess);
            },
            false, true);
        assert_int_equal(ends[0], 0);
        assert_true(WIFSIGNALED(ends[1]) && WTERMSIG(ends[1]) == SIGKILL);
    }
}

/* A peer that ends its communicator is no error, until something waits for it. */
void nccl_lets_peers_leave(void **)
{
    all_succeed(2, [](rank_of *r) {
        r->join();
        buffer b(100);
        if (r->rank == 0) {
            b.fill(0, 1, 0);
            OK(ncclSend(b.data, b.bytes, ncclInt8, 1, r->comm, r->stream));
            r->leave(); /* what was queued goes first */
            return;
        }
        OK(ncclRecv(b.data, b.bytes, ncclInt8, 0, r->comm, r->stream));
        CUDA_OK(cudaStreamSynchronize(r->stream));
        CHECK(b.holds(0, 1, 0));
        for (int i = 0; i < 50; i++, pause_ms(1))
            CHECK(r->error() == ncclSuccess);
        OK(ncclRecv(b.data, b.bytes, ncclInt8, 0, r->comm, r->stream));
        while (r->error() == ncclSuccess)
            emulator_progress();
        CHECK(r->error() == ncclRemoteError);
        OK(ncclCommAbort(r->comm));
    });
}

void nccl_refuses_duplicates(void **)
{
    const auto join_only = [](rank_of *r) {
        const ncclResult_t result = ncclCommInitRank(&r->comm, r->ranks, r->id, r->rank);
        if (r->rank == 2) { /* has a GPU of its own, but not the others it waits for */
            CHECK(result == ncclRemoteError && r->comm == NULL);
            return;
        }
        CHECK(result == ncclInvalidUsage && r->comm == NULL);
        CHECK(strstr(ncclGetLastError(NULL), "Duplicate GPU detected"));
    };
    all_succeed(2, join_only, true);
    all_succeed(
        3,
        [&](rank_of *r) {
            setenv("COP_EMULATOR_DEVICES", "2", 1);
            CUDA_OK(cudaSetDevice(r->rank == 2));
            join_only(r);
        },
        true);
    all_succeed(/* one host, a device each */
                2,
                [](rank_of *r) {
                    setenv("COP_EMULATOR_DEVICES", "2", 1);
                    CUDA_OK(cudaSetDevice(r->rank));
                    r->join();
                    int count, device, rank;
                    OK(ncclCommCount(r->comm, &count));
                    OK(ncclCommCuDevice(r->comm, &device));
                    OK(ncclCommUserRank(r->comm, &rank));
                    CHECK(count == 2 && device == r->rank && rank == r->rank);
                    r->leave();
                },
                true);
}

void nccl_stalls_on_request(void **)
{
    all_succeed(2, [](rank_of *r) {
        setenv("COP_EMULATOR_NCCL_STALL", "1:2", 1);
        r->join();
        buffer first(10), second(10);
        if (r->rank == 1)
            first.fill(1, 0, 0);
        for (buffer *b : {&first, &second})
            if (r->rank == 1)
                OK(ncclSend(b->data, b->bytes, ncclInt8, 0, r->comm, r->stream));
            else
                OK(ncclRecv(b->data, b->bytes, ncclInt8, 1, r->comm, r->stream));
        for (int i = 0; i < 50; i++, pause_ms(2))
            CHECK(!r->idle());
        CHECK(r->error() == ncclSuccess);
        r->meet();
        while (r->rank == 0 && !first.holds(1, 0, 0))
            emulator_progress();
        CHECK(first.holds(1, 0, 0) && (r->rank == 1 || second.untouched()));
        r->meet(); /* or the other takes the abort for a death */
        OK(ncclCommAbort(r->comm));
        CUDA_OK(cudaStreamSynchronize(r->stream));
    });
}

void nccl_aborts_on_mismatch(void **)
{
    const std::vector<int> ends = run_ranks(
        2,
        [](rank_of *r) {
            r->join();
            buffer b(100);
            if (r->rank == 0) {
                OK(ncclRecv(b.data, 99, ncclInt8, 1, r->comm, r->stream));
                CUDA_OK(cudaStreamSynchronize(r->stream));
            } else {
                OK(ncclSend(b.data, 100, ncclInt8, 0, r->comm, r->stream));
                while (r->error() == ncclSuccess)
                    CHECK(!r->idle());
                OK(ncclCommAbort(r->comm));
            }
        },
        false, true);
    assert_true(WIFSIGNALED(ends[0]) && WTERMSIG(ends[0]) == SIGABRT);
    assert_int_equal(ends[1], 0);
}

/* ---- threads, no blocking, misuse, graphs ----------------------------------------------- */

/* Three ranks in one process, a device each. */
void nccl_joins_threads(void **)
{
    all_succeed(1, [](rank_of *process) {
        setenv("COP_EMULATOR_DEVICES", "3", 1);
        std::vector<std::thread> threads;
        for (int rank = 0; rank < 3; rank++)
            threads.emplace_back([process, rank] {
                rank_of r = {rank, 3, process->id, NULL};
                CUDA_OK(cudaSetDevice(rank));
                r.join();
                buffer out(1 << 20), in(1 << 20);
                out.fill(rank, (rank + 1) % 3, 0);
                OK(ncclGroupStart());
                OK(ncclSend(out.data, out.bytes, ncclInt8, (rank + 1) % 3, r.comm, r.stream));
                OK(ncclRecv(in.data, in.bytes, ncclInt8, (rank + 2) % 3, r.comm, r.stream));
                OK(ncclGroupEnd());
                CUDA_OK(cudaStreamSynchronize(r.stream));
                CHECK(in.holds((rank + 2) % 3, rank, 0));
                r.leave();
            });
        for (std::thread &t : threads)
            t.join();
    });
}

static void until_success(rank_of *r)
{
    ncclResult_t result;
    while ((result = r->error()) == ncclInProgress)
        pause_ms(1);
    CHECK(result == ncclSuccess);
}

void nccl_without_blocking(void **)
{
    all_succeed(2, [](rank_of *r) {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        CUDA_OK(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
        if (r->rank == 1)
            pause_ms(100);
        const ncclResult_t begun = ncclCommInitRankConfig(&r->comm, 2, r->id, r->rank, &config);
        CHECK(begun == ncclInProgress || (begun == ncclSuccess && r->rank == 1));
        buffer b(1 << 20);
        int count;
        if (begun == ncclInProgress) {
            CHECK(ncclSend(b.data, 1, ncclInt8, 1, r->comm, r->stream) == ncclInvalidArgument);
            CHECK(ncclCommCount(r->comm, &count) == ncclInvalidArgument);
        }
        until_success(r);
        if (r->rank == 0)
            b.fill(0, 1, 0);
        OK(ncclGroupStart());
        if (r->rank == 0)
            OK(ncclSend(b.data, b.bytes, ncclInt8, 1, r->comm, r->stream));
        else
            OK(ncclRecv(b.data, b.bytes, ncclInt8, 0, r->comm, r->stream));
        CHECK(ncclGroupEnd() == ncclInProgress);
        CHECK(r->idle()); /* it isn't on the stream yet */
        CHECK(ncclRecv(b.data, 1, ncclInt8, 0, r->comm, r->stream) == ncclInvalidArgument);
        until_success(r);
        CUDA_OK(cudaStreamSynchronize(r->stream));
        CHECK(b.holds(0, 1, 0));
        CHECK(ncclCommFinalize(r->comm) == ncclInProgress);
        until_success(r);
        OK(ncclCommDestroy(r->comm));
    });
}

void nccl_refuses_misuse(void **)
{
    all_succeed(1, [](rank_of *r) {
        int version;
        OK(ncclGetVersion(&version));
        CHECK(version == 22809);
        CHECK(ncclGroupEnd() == ncclInvalidUsage);
        CHECK(ncclCommInitRank(&r->comm, 1, r->id, 1) == ncclInvalidArgument);
        const ncclUniqueId none = {};
        CHECK(ncclCommInitRank(&r->comm, 1, none, 0) == ncclInvalidArgument);
        ncclConfig_t config = {};
        CHECK(ncclCommInitRankConfig(&r->comm, 1, r->id, 0, &config) == ncclInvalidArgument);
        r->join();
        buffer b(100);
        CHECK(ncclSend(b.data, 1, ncclInt8, 1, r->comm, r->stream) == ncclInvalidArgument);
        CHECK(ncclSend(NULL, 1, ncclInt8, 0, r->comm, r->stream) == ncclInvalidArgument);
        CHECK(ncclSend(b.data, 1, ncclNumTypes, 0, r->comm, r->stream) == ncclInvalidArgument);
        OK(ncclGroupStart()); /* one bad call spoils its group */
        OK(ncclSend(b.data, 1, ncclInt8, 0, r->comm, r->stream));
        CHECK(ncclRecv(b.data + 1, 1, ncclInt8, 7, r->comm, r->stream) == ncclInvalidArgument);
        CHECK(ncclGroupEnd() == ncclInvalidArgument);
        CHECK(r->idle());
        OK(ncclGroupStart());
        OK(ncclSend(b.data, 50, ncclInt8, 0, r->comm, r->stream));
        OK(ncclRecv(b.data + 49, 50, ncclInt8, 0, r->comm, r->stream));
        CHECK(ncclGroupEnd() == ncclInvalidArgument);
        CHECK(r->idle());
        const ncclComm_t ended = r->comm;
        r->leave();
        CHECK(ncclSend(b.data, 1, ncclInt8, 0, ended, NULL) == ncclInvalidArgument);
        CHECK(ncclCommDestroy(ended) == ncclInvalidArgument);
    });
}

void nccl_in_graphs(void **)
{
    all_succeed(2, [](rank_of *r) {
        r->join();
        cudaGraph_t graph;
        cudaGraphExec_t run;
        buffer b(300000);
        CUDA_OK(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
        if (r->rank == 0)
            OK(ncclSend(b.data, b.bytes, ncclInt8, 1, r->comm, r->stream));
        else
            OK(ncclRecv(b.data, b.bytes, ncclInt8, 0, r->comm, r->stream));
        CUDA_OK(cudaStreamEndCapture(r->stream, &graph));
        CUDA_OK(cudaGraphInstantiate(&run, graph, 0));
        for (int i = 0; i < 3; i++) {
            if (r->rank == 0)
                b.fill(0, 1, i);
            CUDA_OK(cudaGraphLaunch(run, r->stream));
            CUDA_OK(cudaStreamSynchronize(r->stream));
            CHECK(b.holds(0, 1, i));
        }
        CUDA_OK(cudaGraphExecDestroy(run));
        CUDA_OK(cudaGraphDestroy(graph));
        r->leave();
    });
}
