/* The CUDA device where things fail: no GPU, too little memory, and every call of the CUDA
 * libraries that it makes, one after another. The emulator injects them. Each life is a process of
 * its own: it must not crash, must give back what it took, and must say what failed. */
#include "device_harness.h"

#include "cuda/plugin.h"

#include "../shapes.h"

#include <sys/wait.h>
#include <unistd.h>

/* What became of a life; from the child by a pipe. */
typedef struct {
    cop_status status;
    char text[COP_ERROR_TEXT];
    bool handle; /* open gave one, and an error */
    size_t lost; /* bytes of device memory that close did not give back */
} outcome;

static const cop_seeded_weights weights = {.geometry = &shape_odd, .seed = 5};

static cop_status run_step(cop_device *device, const cop_sequence *s, uint32_t count,
                           cop_error *err)
{
    const cop_batch batch = {.count = count, .sequences = s};
    cop_step_result result;
    bool done = false;
    cop_status status = cuda->submit(device, &batch, err);
    while (status == COP_OK && !done) {
        cuda->wait(device);
        status = cuda->poll(device, &result, &done, err);
    }
    return status;
}

/* All ways to copy blocks. What cannot be told at once, the step at the end tells. */
static cop_status copy_about(cop_device *device, const uint32_t *blocks, cop_error *err)
{
    char *block = cop_malloc(cuda->block_bytes(device));
    const uint64_t out = cuda->move_out(device, blocks, (uint32_t[]){0, 1}, 2);
    cuda->copy_block(device, blocks[3], blocks[0], 5);
    const uint64_t in = cuda->move_in(device, blocks + 9, (uint32_t[]){1}, 1);
    while (!cuda->moved(device, in) || !cuda->moved(device, out))
        ;
    cop_status status = cuda->read_block(device, blocks[0], block, err);
    if (status == COP_OK)
        status = cuda->write_block(device, blocks[2], block, err);
    if (status == COP_OK)
        status = cop_cuda_fence(device, NULL, err);
    free(block);
    return status;
}

/* A prefill, three decode steps (plain, captured, replayed), copies, probes, another prefill. */
static cop_status live(cop_device *device, cop_error *err)
{
    uint32_t tokens[TOKENS], blocks[BLOCKS];
    cop_probe probe;
    make_prompt(tokens, shape_odd.vocab, 0);
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i % 40;
    cop_sequence s = part_of(tokens, 0, 20, blocks);
    cop_status status = run_step(device, &s, 1, err);
    for (uint32_t i = 20; i < 23 && status == COP_OK; i++) {
        s = part_of(tokens, i, 1, blocks);
        status = run_step(device, &s, 1, err);
    }
    if (status == COP_OK)
        status = copy_about(device, blocks, err);
    if (status == COP_OK)
        status = cuda->probe(device, COP_PROBE_LINEAR, 3, 0, &probe, err);
    if (status == COP_OK)
        status = cuda->probe(device, COP_PROBE_HOST_OUT, 3, 0, &probe, err);
    s = part_of(tokens, 0, 20, blocks + 20);
    return status == COP_OK ? run_step(device, &s, 1, err) : status;
}

static void be_born_live_and_die(const cop_device_options *options, outcome *o)
{
    cop_error err = {0};
    size_t before = 0, after = 0, all;
    cop_device *device = NULL;
    const bool any = !getenv("COP_EMULATOR_DEVICES");
    char *fail = getenv("COP_EMULATOR_FAIL"), *held = fail ? cop_strdup(fail) : NULL;
    unsetenv("COP_EMULATOR_FAIL");
    if (any)
        cudaMemGetInfo(&before, &all);
    if (held)
        setenv("COP_EMULATOR_FAIL", held, 1);
    o->status = cuda->open(&device, options, &err);
    if (o->status == COP_OK)
        o->status = live(device, &err);
    else
        o->handle = device != NULL;
    cuda->close(device);
    unsetenv("COP_EMULATOR_FAIL");
    cudaGetLastError();
    if (any)
        cudaMemGetInfo(&after, &all);
    o->lost = before - after;
    memcpy(o->text, err.text, sizeof o->text);
    free(held);
}

static outcome live_elsewhere(const cop_device_options *options, const char *name,
                              const char *value)
{
    outcome o = {0};
    int ends[2], state;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(120);
        if (name)
            setenv(name, value, 1);
        be_born_live_and_die(options, &o);
        _exit(write(ends[1], &o, sizeof o) == sizeof o ? 0 : 1);
    }
    close(ends[1]);
    const ssize_t got = read(ends[0], &o, sizeof o);
    close(ends[0]);
    assert_int_equal(waitpid(child, &state, 0), child);
    if (!WIFEXITED(state) || WEXITSTATUS(state) != 0 || got != sizeof o)
        fail_msg("%s=%s: the process ended with state %#x", name, value, (unsigned)state);
    if (o.handle)
        fail_msg("%s=%s: open failed, and set its output", name, value);
    if (o.lost != 0)
        fail_msg("%s=%s: %zu bytes of device memory are lost", name, value, o.lost);
    return o;
}

static cop_device_options small_options(void)
{
    cop_device_options o = options_of(&weights, 16);
    o.blocks = 40;
    o.max_batch_tokens = 32;
    return o;
}

static void expect_error(const outcome *o, cop_status status, const char *text, const char *why)
{
    if (o->status != status || !strstr(o->text, text))
        fail_msg("%s: status %d, \"%s\"; wanted %d and \"%s\"", why, (int)o->status, o->text,
                 (int)status, text);
}

static void test_a_life_without_faults(void **state)
{
    const cop_device_options options = small_options();
    const outcome o = live_elsewhere(&options, NULL, NULL);
    if (o.status != COP_OK)
        fail_msg("%s", o.text);
}

static void test_no_device(void **state)
{
    cop_device_options options = small_options();
    outcome o = live_elsewhere(&options, "COP_EMULATOR_DEVICES", "0");
    expect_error(&o, COP_ERR_UNSUPPORTED, "device.kind cuda: no CUDA device", "no device");
    o = live_elsewhere(&options, "COP_EMULATOR_FAIL", "cudaGetDeviceCount:1");
    expect_error(&o, COP_ERR_UNSUPPORTED, "no CUDA device: ", "no driver");
    options.index = 2;
    o = live_elsewhere(&options, "COP_EMULATOR_DEVICES", "2");
    expect_error(&o, COP_ERR_INVALID, "device.index 2: this host has 2 CUDA devices", "index 2");
    options.index = 1;
    o = live_elsewhere(&options, "COP_EMULATOR_DEVICES", "2");
    if (o.status != COP_OK)
        fail_msg("%s", o.text);
}

/* Refused by size, before anything is loaded, and with the key to lower. */
static void test_too_little_memory(void **state)
{
    cop_device_options options = small_options();
    outcome o = live_elsewhere(&options, "COP_EMULATOR_MEMORY", "100000");
    expect_error(&o, COP_ERR_NO_MEMORY, "the weights of 'odd' take", "weights");
    expect_error(&o, COP_ERR_NO_MEMORY, "model.preset", "weights");
    o = live_elsewhere(&options, "COP_EMULATOR_MEMORY", "60000000");
    expect_error(&o, COP_ERR_NO_MEMORY, "scheduler.chunk_tokens", "batches");
    options.blocks = 1 << 20;
    o = live_elsewhere(&options, NULL, NULL);
    expect_error(&o, COP_ERR_NO_MEMORY, "lower cache.capacity_blocks", "pool");
    options.blocks = 0;
    options.memory_fraction = 1e-9;
    o = live_elsewhere(&options, NULL, NULL);
    expect_error(&o, COP_ERR_NO_MEMORY, "device.memory_fraction", "fraction");
    options = small_options();
    o = live_elsewhere(&options, "COP_EMULATOR_FAIL", "cudaMalloc:1");
    expect_error(&o, COP_ERR_NO_MEMORY, "the weights", "cudaMalloc");
    o = live_elsewhere(&options, "COP_EMULATOR_FAIL", "cudaHostAlloc:4");
    expect_error(&o, COP_ERR_NO_MEMORY, "cache.host_blocks", "cudaMallocHost");
}

/* The n-th call of each fails, for many n. The first failure of a life has to be told, by name;
 * later ones of the calls with which a life ends have nobody to hear them. */
static void test_every_call(void **state)
{
    static const struct {
        const char *call;
        int first;        /* that is the device's: before it the test asks for free memory */
        const char *told; /* NULL: by its name */
    } calls[] = {
        {"cudaGetDeviceProperties", 1, NULL},
        {"cudaSetDevice", 1, NULL},
        {"cudaStreamCreateWithFlags", 1, NULL},
        {"cudaEventCreate", 1, NULL},
        {"cudaEventCreateWithFlags", 1, NULL},
        {"cublasLtCreate", 1, NULL},
        {"cudaMemGetInfo", 2, NULL},
        {"cudaMalloc", 1, NULL},
        {"cudaHostAlloc", 1, "cudaMallocHost"},
        {"cudaMemcpyAsync", 1, NULL},
        {"cudaEventRecord", 1, NULL},
        {"cudaEventSynchronize", 1, NULL},
        {"cudaStreamSynchronize", 1, NULL},
        {"cublasLtMatmulAlgoGetHeuristic", 1, NULL},
        {"cublasLtMatmul", 1, NULL},
        {"cudaFuncGetAttributes", 1, "cop_cuda_load_kernels"},
        {"cudaLaunchKernel", 1, "cop_cuda_"},
        {"cudaStreamBeginCapture", 1, NULL},
        {"cudaStreamEndCapture", 1, NULL},
        {"cudaGraphInstantiate", 1, NULL},
        {"cudaGraphLaunch", 1, NULL},
        {"cudaStreamWaitEvent", 1, NULL},
        {"cudaEventQuery", 1, "the step"},
        {"cudaEventElapsedTime", 1, NULL},
    };
    static const int after[] = {0, 1, 3, 8, 20, 54};
    const cop_device_options options = small_options();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (size_t k = 0; k < sizeof after / sizeof *after; k++) {
            char fault[80];
            const int n = calls[i].first + after[k];
            snprintf(fault, sizeof fault, "%s:%d", calls[i].call, n);
            const outcome o = live_elsewhere(&options, "COP_EMULATOR_FAIL", fault);
            if (k == 0 || o.status != COP_OK) {
                const bool named = strstr(o.text, calls[i].call) ||
                                   (calls[i].told && strstr(o.text, calls[i].told));
                if (o.status == COP_OK || !named)
                    fail_msg("%s: status %d, \"%s\"", fault, (int)o.status, o.text);
            }
        }
}

int main(void)
{
    if (!COP_EMULATED) {
        printf("skipped: it is the emulator that injects faults\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_life_without_faults),
        cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_every_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
