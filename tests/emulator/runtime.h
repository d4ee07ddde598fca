/* What the parts of the fake runtime share: the lock, the streams, the memory. */
#ifndef COP_EMULATOR_RUNTIME_H
#define COP_EMULATOR_RUNTIME_H

#include "emulator.h"
#include <cuda_runtime_api.h>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

/* A recursive mutex that can be let go of altogether, however often its thread holds it. */
class emulator_mutex
{
  public:
    void lock();
    void unlock();
    int release(); /* returns how often it was held, for retake() */
    void retake(int times);

  private:
    std::recursive_mutex mutex;
};

emulator_mutex &emulator_lock();

/* Every call of the runtime: takes the lock, keeps the last error, fails when it is asked to. */
class emulator_call
{
  public:
    explicit emulator_call(const char *name, cudaError_t failure = cudaErrorLaunchFailure);
    /* What the caller shall return; remembered unless it is cudaSuccess or cudaErrorNotReady. */
    cudaError_t end(cudaError_t status);
    const bool fails; /* by COP_EMULATOR_FAIL; then end(failure) */
    const cudaError_t failure;

  private:
    std::unique_lock<emulator_mutex> lock;
};

/* The error that this thread remembers; clear: forgets it. */
cudaError_t emulator_last_error(bool clear);

int emulator_device_count();
int &emulator_device(); /* of this thread */
size_t emulator_environment(const char *name, size_t otherwise);
/* COP_EMULATOR_STRICT_LOADING=1: launches of kernels that were not loaded before are errors. */
bool emulator_must_be_loaded(const void *kernel);

/* Memory. */
struct emulator_allocation {
    unsigned char *begin;
    size_t bytes, mapped;
    int device;
};
size_t emulator_memory_total();
size_t emulator_memory_used(int device);
cudaError_t emulator_allocate(void **p, size_t bytes);
void emulator_release(void *p, const char *call);
const emulator_allocation *emulator_find(const void *p);
const char *emulator_describe_address(const void *p);
/* Aborts if [p, p + bytes) is not what a copy may touch. */
void emulator_check_copy(const void *p, size_t bytes, bool device, const char *what);

/* Streams. */
enum emulator_outcome { EMULATOR_DONE, EMULATOR_PROGRESSED, EMULATOR_WAITS };
typedef std::function<emulator_outcome()> emulator_step;

struct emulator_dependency {
    std::shared_ptr<CUstream_st> stream;
    uint64_t completed; /* it must have reached this */
};
struct emulator_work {
    emulator_step step;
    std::vector<emulator_dependency> after;
};

/* A graph: nodes in the order of their capture, so every one comes after those it depends on. */
struct emulator_node {
    emulator_step step; /* empty: only joins */
    std::vector<size_t> after;
};
struct CUgraph_st {
    std::vector<emulator_node> nodes;
};
struct CUgraphExec_st {
    std::vector<emulator_node> nodes;
};
struct emulator_capture {
    CUgraph_st *graph;
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    cudaError_t broken; /* why the capture cannot end well */
    std::vector<std::shared_ptr<CUstream_st>> streams;
};

struct CUstream_st : std::enable_shared_from_this<CUstream_st> {
    int device;
    unsigned flags;
    int priority;
    bool destroyed;
    bool busy;                  /* its head is running */
    uint64_t queued, completed; /* counts of operations */
    std::deque<emulator_work> work;
    std::shared_ptr<emulator_capture> capture; /* NULL: none */
    std::vector<size_t> tail;                  /* of the capture: what comes next follows these */
};

/* One cudaEventRecord. */
struct emulator_record {
    bool done;
    double time_ms;
};
struct CUevent_st {
    unsigned flags;
    std::shared_ptr<emulator_record> record;   /* NULL: never recorded */
    std::shared_ptr<emulator_capture> capture; /* recorded while capturing */
    std::vector<size_t> tail;
};

/* The stream of a handle, NULL: the default one. Empty if there is none of that handle. */
std::shared_ptr<CUstream_st> emulator_stream(cudaStream_t handle);
const std::vector<std::shared_ptr<CUstream_st>> &emulator_streams();
void emulator_add_work(const std::shared_ptr<CUstream_st> &stream, emulator_step step);
/* Runs work until done() says so. */
void emulator_run_until(const std::function<bool()> &done);
/* Everything that is queued on the device now. */
void emulator_drain(int device);
/* Whether a capture forbids a call that waits or allocates; breaks the capture then. */
bool emulator_forbidden_by_capture();

#endif
