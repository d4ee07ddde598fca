/* Device memory: pages of its own for every allocation, with 16 MiB before and behind that nobody may
 * touch (addresses only, no memory). What is freed is never mapped again, so a late access ends the
 * program. */
#include "runtime.h"
#include <algorithm>
#include <map>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

namespace
{

constexpr size_t PAGE = 4096, ALIGNMENT = 256, GUARD = (size_t)16 << 20;
constexpr unsigned char SLACK = 0xa5; /* between an allocation's end and the guard page */

std::map<uintptr_t, emulator_allocation> live, freed; /* by begin */
std::map<int, size_t> used;                           /* bytes, by device */
const emulator_allocation *last_found;                /* in live: nearly always the next, too */

const emulator_allocation *find_in(const std::map<uintptr_t, emulator_allocation> &map,
                                   const void *p)
{
    auto next = map.upper_bound((uintptr_t)p);
    if (next == map.begin())
        return NULL;
    const emulator_allocation &a = std::prev(next)->second;
    return (const unsigned char *)p < a.begin + std::max<size_t>(a.bytes, 1) ? &a : NULL;
}

} // namespace

size_t emulator_memory_total()
{
    static const size_t total = emulator_environment("COP_EMULATOR_MEMORY", (size_t)4 << 30);
    return total;
}

size_t emulator_memory_used(int device)
{
    return used[device];
}

cudaError_t emulator_allocate(void **p, size_t bytes)
{
    if (!p)
        return cudaErrorInvalidValue;
    if (bytes == 0) {
        *p = NULL;
        return cudaSuccess;
    }
    int device = emulator_device();
    size_t in_use = used[device], free_bytes = emulator_memory_total() - in_use;
    if (bytes > free_bytes)
        return cudaErrorMemoryAllocation;
    size_t kept = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t pages = (kept + PAGE - 1) / PAGE * PAGE;
    size_t mapped = pages + 2 * GUARD;
    void *memory =
        mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    unsigned char *first = (unsigned char *)memory + GUARD;
    mprotect(first, pages, PROT_READ | PROT_WRITE);
    unsigned char *begin = first + pages - kept; /* ends as near to the guard as may be */
    memset(first, SLACK, (size_t)(begin - first));
    memset(begin, 0xff, bytes);
    memset(begin + bytes, SLACK, kept - bytes);
    live[(uintptr_t)begin] = {begin, bytes, pages, device};
    used[device] = in_use + bytes;
    *p = begin;
    return cudaSuccess;
}

void emulator_release(void *p, const char *call)
{
    if (!p)
        return;
    auto found = live.find((uintptr_t)p);
    if (found == live.end())
        emulator_abort("%s: %p is %s", call, p, emulator_describe_address(p));
    emulator_allocation a = found->second;
    size_t kept = (a.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (size_t i = a.bytes; i < kept; i++)
        if (a.begin[i] != SLACK)
            emulator_abort("%s: byte %zu behind the end of an allocation of %zu bytes was written",
                           call, i - a.bytes, a.bytes);
    unsigned char *first = a.begin + kept - a.mapped;
    mmap(first, a.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    used[a.device] -= a.bytes;
    last_found = NULL;
    live.erase(found);
    freed[(uintptr_t)a.begin] = a;
}

const emulator_allocation *emulator_find(const void *p)
{
    const unsigned char *byte = (const unsigned char *)p;
    if (!last_found || byte < last_found->begin || byte >= last_found->begin + last_found->bytes)
        last_found = find_in(live, p);
    return last_found;
}

const char *emulator_describe_address(const void *p)
{
    static char text[160];
    const emulator_allocation *a = find_in(live, p);
    const emulator_allocation *gone = find_in(freed, p);
    if (a)
        snprintf(text, sizeof text, "byte %zu of an allocation of %zu bytes on device %d",
                 (size_t)((const unsigned char *)p - a->begin), a->bytes, a->device);
    else if (gone)
        snprintf(text, sizeof text, "byte %zu of a freed allocation of %zu bytes",
                 (size_t)((const unsigned char *)p - gone->begin), gone->bytes);
    else {
        auto next = live.upper_bound((uintptr_t)p);
        const emulator_allocation *before = next == live.begin() ? NULL : &std::prev(next)->second;
        if (before && (uintptr_t)p - (uintptr_t)before->begin < before->bytes + GUARD)
            snprintf(text, sizeof text, "%zu bytes behind the end of an allocation of %zu bytes",
                     (size_t)((const unsigned char *)p - before->begin) - before->bytes,
                     before->bytes);
        else
            snprintf(text, sizeof text, "not device memory");
    }
    return text;
}

void emulator_need_device_memory(const void *p, size_t bytes, const char *what)
{
    std::lock_guard<emulator_mutex> guard(emulator_lock());
    const emulator_allocation *a = emulator_find(p);
    if (!a)
        emulator_abort("%s: address %p is %s", what, p, emulator_describe_address(p));
    size_t offset = (size_t)((const unsigned char *)p - a->begin);
    if (bytes > a->bytes - offset)
        emulator_abort("%s: %zu bytes from address %p, which is byte %zu of an allocation of %zu",
                       what, bytes, p, offset, a->bytes);
}

void emulator_check_copy(const void *p, size_t bytes, bool on_device, const char *what)
{
    if (bytes == 0)
        return;
    if (on_device)
        emulator_need_device_memory(p, bytes, what);
    else if (find_in(live, p) || find_in(freed, p))
        emulator_abort("%s: host address %p is %s", what, p, emulator_describe_address(p));
}
