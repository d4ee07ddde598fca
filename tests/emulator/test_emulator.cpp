/* The emulator itself: what it computes, and that it shows what it is there to show. */
#include "test_aborts.h"
#include <gpu.cuh>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#define OK(call) assert_int_equal(call, cudaSuccess)

/* Device memory with the host's side of it. */
template <typename T> struct array {
    T *device = NULL;
    std::vector<T> host;

    explicit array(size_t count) : host(count)
    {
        OK(cudaMalloc((void **)&device, count * sizeof(T)));
    }
    ~array()
    {
        cudaFree(device);
    }
    void put()
    {
        OK(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    void get()
    {
        OK(cudaMemcpy(host.data(), device, host.size() * sizeof(T), cudaMemcpyDeviceToHost));
    }
};

/* Values that BF16 holds exactly, and whose products' sums float32 does. */
static float small(uint32_t i)
{
    return (float)((int)(i * 2654435761u >> 24) - 128) / 16.0f;
}

static __global__ void shuffles(uint32_t *out)
{
    uint32_t lane = threadIdx.x;
    out[lane] = __shfl_xor_sync(0xffffffffu, lane, 5);
    out[32 + lane] = __shfl_up_sync(0xffffffffu, lane, 3);
    out[64 + lane] = __shfl_down_sync(0xffffffffu, lane, 3, 8);
    out[96 + lane] = (uint32_t)(__shfl_sync(0xffffffffu, (uint64_t)lane << 40, 9, 16) >> 40);
    if (lane < 12) {
        out[128 + lane] = __shfl_xor_sync(0xfffu, lane, 1);
    } else {
        out[128 + lane] = __ballot_sync(0xfffff000u, lane % 3 == 0);
        if (lane == 31) /* the rest of the warp is no longer there */
            out[128 + lane] = __activemask() >> 31;
    }
    out[160 + lane] = __reduce_add_sync(0xffffffffu, lane);
    out[192 + lane] = (uint32_t)__reduce_min_sync(0xffffffffu, (int)lane - 7);
}

static void test_shuffles(void **)
{
    array<uint32_t> out(224);
    OK(cop_launch(shuffles, dim3(1), dim3(32), 0, NULL, out.device));
    out.get();
    for (uint32_t l = 0; l < 32; l++) {
        assert_int_equal(out.host[l], l ^ 5);
        assert_int_equal(out.host[32 + l], l < 3 ? l : l - 3);
        assert_int_equal(out.host[64 + l], l % 8 < 5 ? l + 3 : l);
        assert_int_equal(out.host[96 + l], l / 16 * 16 + 9);
        uint32_t split = l < 12 ? l ^ 1 : l == 31 ? 1 : 0x49249000u;
        assert_int_equal(out.host[128 + l], split);
        assert_int_equal(out.host[160 + l], 31 * 32 / 2);
        assert_int_equal((int)out.host[192 + l], -7);
    }
}

/* c[16][8] = a[16][16] b[16][8], a through ldmatrix, b transposed on the way. */
static __global__ void product(const uint16_t *a, const uint16_t *b, float *c)
{
    uint16_t *shared = (uint16_t *)cop_shared_memory(); /* a, then b */
    uint32_t lane = threadIdx.x;
    cop_copy_async(shared + lane * 8, a + lane * 8, true);
    cop_copy_async(shared + 256 + lane * 8, b + lane * 8, lane < 16);
    cop_copy_commit();
    cop_copy_wait<0>();
    __syncthreads();
    uint32_t left[4], right[4];
    cop_load_matrices(left, shared + lane % 16 * 16 + lane / 16 * 8);
    cop_load_matrices_transposed(right, shared + 256 + lane * 8);
    float sum[4] = {0.5f, 0, 0, 0};
    cop_mma(sum, left, {right[0], right[1]});
    for (uint32_t i = 0; i < 4; i++)
        c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
    for (uint32_t i = 2; i < 4; i++)
        c[128 + lane * 2 + i - 2] = __uint_as_float(right[i]); /* of rows not wanted: zeros */
}

static void test_product(void **)
{
    array<uint16_t> a(256), b(256);
    array<float> c(192);
    for (uint32_t i = 0; i < 256; i++) {
        a.host[i] = (uint16_t)cop_pack_bf16(small(i), 0);
        b.host[i] = (uint16_t)cop_pack_bf16(small(i + 999), 0);
    }
    a.put();
    b.put();
    OK(cop_launch(product, dim3(1), dim3(32), 1024, NULL, a.device, b.device, c.device));
    c.get();
    for (uint32_t y = 0; y < 16; y++)
        for (uint32_t x = 0; x < 8; x++) {
            float sum = y < 8 && x % 2 == 0 ? 0.5f : 0;
            for (uint32_t k = 0; k < 16; k++)
                sum += cop_low_bf16(a.host[y * 16 + k]) * cop_low_bf16(b.host[k * 8 + x]);
            assert_true(c.host[y * 8 + x] == sum);
        }
    for (uint32_t i = 128; i < 192; i++)
        assert_true(c.host[i] == 0);
}

static __global__ void copies(const float *in, float *out)
{
    __shared__ __align__(16) float two[2][4];
    out[0] = two[0][0];
    two[0][0] = 1;
    cop_copy_async(two[0], in, true);
    cop_copy_commit();
    cop_copy_async(two[1], in + 4, true);
    cop_copy_commit();
    out[1] = two[0][0];
    cop_copy_wait<1>();
    out[2] = two[0][0];
    out[3] = two[1][0];
    cop_copy_wait<0>();
    out[4] = two[1][0];
}

static void test_copies_come_late(void **)
{
    array<float> in(8), out(5);
    for (int i = 0; i < 8; i++)
        in.host[i] = (float)i + 1;
    in.put();
    OK(cop_launch(copies, dim3(1), dim3(1), 0, NULL, in.device, out.device));
    out.get();
    assert_true(isnan(out.host[0]) && isnan(out.host[1]) && isnan(out.host[3]));
    assert_true(out.host[2] == 1 && out.host[4] == 5);
}

/* What a template's shared memory holds when a block begins. */
template <int N> static __global__ void read_shared(float *out)
{
    __shared__ float words[N];
    const float *dynamic = (const float *)cop_shared_memory();
    for (int i = 0; i < N; i++)
        out[i] = isnan(words[i]) && isnan(dynamic[i]);
    for (int i = 0; i < N; i++)
        words[i] = 1;
}

static void test_shared_memory_is_poisoned(void **)
{
    array<float> out(8);
    OK(cop_launch(read_shared<8>, dim3(2), dim3(1), 32, NULL, out.device));
    out.get();
    for (float is_nan : out.host)
        assert_true(is_nan == 1);
}

/* A sum over the block, with or without the barrier it needs. */
template <bool BARRIER> static __global__ void block_sum(float *out)
{
    __shared__ float part[4];
    float sum = (float)threadIdx.x;
    for (int i = 16; i > 0; i /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, i);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    if (BARRIER)
        __syncthreads();
    if (threadIdx.x == 0)
        out[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}

/* How many of so many seeds give the right sum. */
template <bool BARRIER> static int right_sums(int seeds)
{
    int right = 0;
    for (int seed = 1; seed <= seeds; seed++) {
        array<float> out(1);
        emulator_seed((uint64_t)seed);
        OK(cop_launch(block_sum<BARRIER>, dim3(1), dim3(128), 0, NULL, out.device));
        out.get();
        right += out.host[0] == 127 * 128 / 2;
    }
    return right;
}

static void test_missing_barrier_shows(void **)
{
    assert_int_equal(right_sums<true>(100), 100);
    assert_in_range(right_sums<false>(100), 0, 99);
}

/* Lanes give values to each other through shared memory. */
template <bool SYNC> static __global__ void reverse(uint32_t *out)
{
    __shared__ uint32_t line[32];
    line[threadIdx.x] = threadIdx.x;
    if (SYNC)
        __syncwarp();
    out[threadIdx.x] = line[31 - threadIdx.x];
}

static void test_missing_syncwarp_shows(void **)
{
    for (int sync = 0; sync < 2; sync++) {
        array<uint32_t> out(32);
        OK(sync ? cop_launch(reverse<true>, dim3(1), dim3(32), 0, NULL, out.device)
                : cop_launch(reverse<false>, dim3(1), dim3(32), 0, NULL, out.device));
        out.get();
        int wrong = 0;
        for (uint32_t i = 0; i < 32; i++)
            wrong += out.host[i] != 31 - i;
        if (sync)
            assert_int_equal(wrong, 0);
        else
            assert_int_equal(wrong, 16);
    }
}

static __global__ void divergent()
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}

static __global__ void lonely()
{
    if (threadIdx.x == 3)
        __syncthreads();
    __shfl_sync(0xffffffffu, threadIdx.x, 0);
}

static __global__ void mixed()
{
    if (threadIdx.x < 8)
        __ballot_sync(0xffffffffu, 1);
    else
        __shfl_sync(0xffffffffu, threadIdx.x, 0);
}

static __global__ void odd_address(const float *in)
{
    cop_copy_async(cop_shared_memory() + 8, in, true);
}

static __global__ void beyond(const float *in)
{
    cop_copy_async(cop_shared_memory() + 64, in, true);
}

static __global__ void wild(float *out)
{
    out[threadIdx.x == 5 ? 1 << 20 : 0] = 1;
}

static void run_and_wait(cudaError_t status)
{
    OK(status);
    cudaDeviceSynchronize();
}

static void test_mistakes_abort(void **)
{
    array<float> in(16);
    assert_true(aborts_with("divergent barrier", [] {
        run_and_wait(cop_launch(divergent, dim3(1), dim3(64), 0, NULL));
    }));
    assert_true(aborts_with("lane 3 of warp 0: at " __FILE__,
                            [] { run_and_wait(cop_launch(lonely, dim3(2), dim3(32), 0, NULL)); }));
    assert_true(
        aborts_with("vote", [] { run_and_wait(cop_launch(mixed, dim3(1), dim3(32), 0, NULL)); }));
    assert_true(aborts_with("not a multiple of 16", [&] {
        run_and_wait(cop_launch(odd_address, dim3(1), dim3(1), 64, NULL, in.device));
    }));
    assert_true(aborts_with("is not shared memory of this block", [&] {
        run_and_wait(cop_launch(beyond, dim3(1), dim3(1), 64, NULL, in.device));
    }));
    assert_true(aborts_with("thread (5,0,0)", [&] {
        run_and_wait(cop_launch(wild, dim3(1), dim3(32), 0, NULL, in.device));
    }));
    assert_true(aborts_with("freed allocation", [] {
        float *p, x = 0;
        cudaMalloc((void **)&p, 4);
        cudaFree(p);
        cudaMemcpy(p, &x, 4, cudaMemcpyHostToDevice);
    }));
}

static __global__ void add(uint32_t *p, uint32_t value)
{
    atomicAdd(p, value);
}

static __global__ void move(const uint32_t *from, uint32_t *to)
{
    *to = *from;
}

/* Two streams: one writes, the other reads; with or without the event between them. */
static int right_reads(bool wait, int seeds)
{
    int right = 0;
    cudaStream_t writer, reader;
    cudaEvent_t written;
    OK(cudaStreamCreateWithFlags(&writer, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&reader, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&written, cudaEventDisableTiming));
    for (int seed = 1; seed <= seeds; seed++) {
        array<uint32_t> value(1);
        uint32_t put = 7, got = 0;
        emulator_seed((uint64_t)seed);
        OK(cudaMemcpyAsync(value.device, &put, 4, cudaMemcpyHostToDevice, writer));
        OK(cudaEventRecord(written, writer));
        if (wait)
            OK(cudaStreamWaitEvent(reader, written, 0));
        OK(cudaMemcpyAsync(&got, value.device, 4, cudaMemcpyDeviceToHost, reader));
        OK(cudaStreamSynchronize(reader));
        right += got == 7;
    }
    OK(cudaEventDestroy(written));
    OK(cudaStreamDestroy(writer));
    OK(cudaStreamDestroy(reader));
    return right;
}

static void test_missing_event_wait_shows(void **)
{
    assert_int_equal(right_reads(true, 100), 100);
    assert_in_range(right_reads(false, 100), 1, 99);
}

static void test_work_is_deferred(void **)
{
    array<uint32_t> value(1);
    cudaStream_t stream;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    uint32_t put = 1, got = 0;
    OK(cudaMemcpyAsync(value.device, &put, 4, cudaMemcpyHostToDevice, stream));
    OK(cudaMemcpyAsync(&got, value.device, 4, cudaMemcpyDeviceToHost, stream));
    put = 2; /* too early: the copy has not been made */
    assert_int_equal(got, 0);
    assert_int_equal(cudaStreamQuery(stream), cudaErrorNotReady);
    OK(cudaStreamQuery(stream));
    assert_int_equal(got, 2);
    OK(cudaStreamDestroy(stream));
}

/* A graph whose two branches run on two streams. */
static void test_graph(void **)
{
    array<uint32_t> x(3);
    x.host = {1, 0, 0};
    x.put();
    cudaStream_t first, second;
    cudaEvent_t forked, joined;
    OK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    OK(cudaEventCreate(&forked));
    OK(cudaEventCreate(&joined));
    OK(cudaStreamBeginCapture(first, cudaStreamCaptureModeThreadLocal));
    OK(cop_launch(add, dim3(1), dim3(1), 0, first, x.device, 10));
    OK(cudaEventRecord(forked, first));
    OK(cudaStreamWaitEvent(second, forked, 0));
    OK(cop_launch(move, dim3(1), dim3(1), 0, second, x.device, x.device + 1));
    OK(cudaEventRecord(joined, second));
    OK(cudaStreamWaitEvent(first, joined, 0));
    OK(cop_launch(move, dim3(1), dim3(1), 0, first, x.device + 1, x.device + 2));
    int calls = 2; /* of a step that is done the third time it is called */
    emulator_enqueue(first, [calls]() mutable { return calls-- == 0; });
    cudaGraph_t graph;
    cudaGraphExec_t run;
    OK(cudaStreamEndCapture(first, &graph));
    OK(cudaGraphInstantiate(&run, graph, 0));
    OK(cudaGraphDestroy(graph));
    x.get();
    assert_int_equal(x.host[0], 1);
    for (uint32_t i = 1; i <= 3; i++) {
        emulator_seed(i);
        OK(cudaGraphLaunch(run, first));
        OK(cudaStreamSynchronize(first));
        x.get();
        for (int j = 0; j < 3; j++)
            assert_int_equal(x.host[j], 1 + 10 * i);
    }
    OK(cudaGraphExecDestroy(run));
    OK(cudaEventDestroy(forked));
    OK(cudaEventDestroy(joined));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
}

static void test_capture_errors(void **)
{
    cudaStream_t first, second;
    cudaEvent_t forked;
    cudaGraph_t graph;
    void *p;
    array<uint32_t> x(1);
    OK(cudaStreamCreate(&first));
    OK(cudaStreamCreate(&second));
    OK(cudaEventCreate(&forked));
    OK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
    OK(cudaEventRecord(forked, first));
    OK(cudaStreamWaitEvent(second, forked, 0));
    OK(cop_launch(add, dim3(1), dim3(1), 0, second, x.device, 1));
    assert_int_equal(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureUnjoined);
    OK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaMalloc(&p, 4), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    OK(cudaGetLastError());
    OK(cudaEventDestroy(forked));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
}

static void test_out_of_memory(void **)
{
    size_t before, left, total;
    void *p = NULL;
    OK(cudaMemGetInfo(&before, &total));
    assert_int_equal(total, 64 << 20);
    OK(cudaMalloc(&p, 40 << 20));
    assert_int_equal(((unsigned char *)p)[12345], 0xff);
    OK(cudaMemGetInfo(&left, &total));
    assert_int_equal(before - left, 40 << 20);
    void *q = NULL;
    assert_int_equal(cudaMalloc(&q, 40 << 20), cudaErrorMemoryAllocation);
    assert_string_equal(cudaGetErrorName(cudaGetLastError()), "cudaErrorMemoryAllocation");
    OK(cudaFree(p));
    OK(cudaMalloc(&q, 40 << 20));
    OK(cudaFree(q));
}

static void test_failing_on_request(void **)
{
    cudaStream_t stream;
    setenv("COP_EMULATOR_FAIL", "cudaStreamGetPriority:1,cudaGraphUpload:2", 1);
    OK(cudaGraphUpload(NULL, NULL));
    assert_int_equal(cudaGraphUpload(NULL, NULL), cudaErrorLaunchFailure);
    OK(cudaGraphUpload(NULL, NULL));
    unsetenv("COP_EMULATOR_FAIL");
    OK(cudaStreamCreate(&stream));
    OK(cudaStreamDestroy(stream));
    cudaGetLastError();
}

static void count(void *data)
{
    ++*(int *)data;
}

static void test_host_functions(void **)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t run;
    int calls = 0;
    OK(cudaStreamCreate(&stream));
    OK(cudaLaunchHostFunc(stream, count, &calls));
    assert_int_equal(calls, 0);
    OK(cudaStreamSynchronize(stream));
    assert_int_equal(calls, 1);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    OK(cudaLaunchHostFunc(stream, count, &calls));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphInstantiate(&run, graph, 0));
    OK(cudaGraphLaunch(run, stream));
    OK(cudaGraphLaunch(run, stream));
    OK(cudaDeviceSynchronize());
    assert_int_equal(calls, 3);
    OK(cudaGraphExecDestroy(run));
    OK(cudaGraphDestroy(graph));
    OK(cudaStreamDestroy(stream));
}

/* The default stream and a blocking one wait for each other; one that does not block does not. */
static void test_default_stream(void **)
{
    cudaStream_t stream;
    OK(cudaStreamCreate(&stream));
    for (int seed = 1; seed <= 50; seed++) {
        array<uint32_t> x(2);
        x.host = {1, 2};
        emulator_seed((uint64_t)seed);
        OK(cudaMemcpyAsync(x.device, &x.host[0], 8, cudaMemcpyHostToDevice, NULL));
        OK(cop_launch(add, dim3(1), dim3(1), 0, stream, x.device, 5));
        OK(cop_launch(move, dim3(1), dim3(1), 0, NULL, x.device, x.device + 1));
        x.get();
        assert_int_equal(x.host[1], 6);
    }
    OK(cudaStreamDestroy(stream));
}

static void test_devices(void **)
{
    int count;
    cudaDeviceProp first, second;
    OK(cudaGetDeviceCount(&count));
    assert_int_equal(count, 2);
    OK(cudaGetDeviceProperties(&first, 0));
    OK(cudaGetDeviceProperties(&second, 1));
    assert_string_equal(first.name, "emulated GPU");
    assert_memory_not_equal(&first.uuid, &second.uuid, 16);
    assert_int_equal(cudaSetDevice(2), cudaErrorInvalidDevice);
    cudaGetLastError();
}

int main(void)
{
    setenv("COP_EMULATOR_MEMORY", "67108864", 1);
    setenv("COP_EMULATOR_DEVICES", "2", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shuffles),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_copies_come_late),
        cmocka_unit_test(test_shared_memory_is_poisoned),
        cmocka_unit_test(test_missing_barrier_shows),
        cmocka_unit_test(test_missing_syncwarp_shows),
        cmocka_unit_test(test_mistakes_abort),
        cmocka_unit_test(test_work_is_deferred),
        cmocka_unit_test(test_missing_event_wait_shows),
        cmocka_unit_test(test_graph),
        cmocka_unit_test(test_capture_errors),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_failing_on_request),
        cmocka_unit_test(test_host_functions),
        cmocka_unit_test(test_default_stream),
        cmocka_unit_test(test_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
