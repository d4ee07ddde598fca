/* The lock, the random numbers, failing on request, and how a failure is told. */
#include "executor.h"
#include "runtime.h"
#include <errno.h>
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>

namespace
{

uint64_t seed, state;
bool seeded;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int device;
std::map<std::string, size_t> calls;

void tell_seed(int status, void *)
{
    if (status != 0)
        fprintf(stderr, "emulator: COP_EMULATOR_SEED=%llu\n", (unsigned long long)seed);
}

} // namespace

void emulator_seed(uint64_t value)
{
    seed = state = value;
    if (!seeded)
        on_exit(tell_seed, NULL);
    seeded = true;
}

uint64_t emulator_random()
{
    if (!seeded)
        emulator_seed(emulator_environment("COP_EMULATOR_SEED", 1));
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void emulator_abort(const char *format, ...)
{
    fflush(stdout);
    fprintf(stderr, "emulator: ");
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    if (emulator_block.kernel) {
        const uint3 &b = emulator_block.index;
        fprintf(stderr, "emulator: in kernel %s, block (%u,%u,%u)", emulator_block.kernel, b.x, b.y,
                b.z);
        if (emulator_self)
            fprintf(stderr, ", thread (%u,%u,%u)", emulator_self->index.x, emulator_self->index.y,
                    emulator_self->index.z);
        fputc('\n', stderr);
    }
    fprintf(stderr, "emulator: COP_EMULATOR_SEED=%llu\n", (unsigned long long)seed);
    abort();
}

size_t emulator_environment(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    if (!text || !*text)
        return otherwise;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || errno)
        emulator_abort("%s=%s is not a number", name, text);
    return (size_t)value;
}

/* COP_EMULATOR_FAIL=<call>:<n>[,<call>:<n>...] */
bool emulator_fails(const char *call)
{
    std::lock_guard<emulator_mutex> guard(emulator_lock());
    size_t number = ++calls[call];
    const char *text = getenv("COP_EMULATOR_FAIL");
    size_t length = strlen(call);
    for (; text && *text; text += strcspn(text, ","), text += *text == ',')
        if (!strncmp(text, call, length) && text[length] == ':' &&
            strtoull(text + length + 1, NULL, 10) == number)
            return true;
    return false;
}

/* There is one, so one count for each thread. */
static thread_local int times_held;

void emulator_mutex::lock()
{
    mutex.lock();
    times_held++;
}

void emulator_mutex::unlock()
{
    times_held--;
    mutex.unlock();
}

int emulator_mutex::release()
{
    int times = times_held;
    while (times_held > 0)
        unlock();
    return times;
}

void emulator_mutex::retake(int times)
{
    while (times_held < times)
        lock();
}

emulator_mutex &emulator_lock()
{
    static emulator_mutex *lock = new emulator_mutex; /* outlives every static */
    return *lock;
}

emulator_call::emulator_call(const char *name, cudaError_t wanted)
    : fails(emulator_fails(name)), failure(wanted), lock(emulator_lock())
{
}

cudaError_t emulator_call::end(cudaError_t status)
{
    if (status != cudaSuccess && status != cudaErrorNotReady)
        last_error = status;
    return status;
}

cudaError_t emulator_last_error(bool clear)
{
    cudaError_t status = last_error;
    if (clear)
        last_error = cudaSuccess;
    return status;
}

int emulator_device_count()
{
    static const int count = (int)emulator_environment("COP_EMULATOR_DEVICES", 1);
    return count;
}

int &emulator_device()
{
    return device;
}
