/* See check.h. */
#include "check.h"
#include "emulator.h"
#include "executor.h"
#include "runtime.h"
#include "shared_ranges.h"
#include <dlfcn.h>
#include <unordered_map>

bool emulator_checks;

namespace
{

/* The last time a byte was touched in one way: by one thread, by several of one warp, or by more. */
struct touch {
    uint32_t epoch, syncs; /* of the thread; its epoch tells the block, too */
    uint16_t who;          /* number of the thread, or of the last of them */
    enum : uint16_t { ONE, WARP, MANY } by;
};
struct shadow {
    touch read, write, atomic;
};

shadow of_dynamic[232448]; /* the most that a block may have */
std::unordered_map<uintptr_t, shadow> of_static;

shadow &shadow_of(const void *p)
{
    size_t offset = (size_t)((const unsigned char *)p - emulator_block.shared);
    return offset < emulator_block.shared_bytes ? of_dynamic[offset] : of_static[(uintptr_t)p];
}

uint32_t self_number()
{
    return emulator_self->warp * 32 + emulator_self->lane;
}

/* Whether what was done then comes before what this thread does now. */
bool is_before(const touch &t)
{
    if (t.epoch != emulator_block.epoch)
        return true;
    if (t.by == touch::MANY || t.who / 32 != emulator_self->warp)
        return false;
    return (t.by == touch::ONE && t.who == self_number()) || t.syncs != emulator_self->syncs;
}

void keep(touch &t)
{
    if (is_before(t))
        t.by = touch::ONE;
    else if (t.who / 32 != emulator_self->warp)
        t.by = touch::MANY;
    else if (t.by == touch::ONE)
        t.by = touch::WARP;
    t.epoch = emulator_block.epoch;
    t.syncs = emulator_self->syncs;
    t.who = (uint16_t)self_number();
}

[[noreturn]] void abort_race(const touch &t, const char *did, const void *p, const char *what)
{
    uint32_t x = emulator_block.size.x, y = emulator_block.size.y;
    size_t offset = (size_t)((const unsigned char *)p - emulator_block.shared);
    bool dynamic = offset < emulator_block.shared_bytes;
    emulator_abort(
        "race in shared memory: %s at byte %zu of %s, which thread (%u,%u,%u) %s with no "
        "barrier between",
        what, dynamic ? offset : (size_t)p, dynamic ? "the dynamic part" : "the program", t.who % x,
        t.who / x % y, t.who / x / y, did);
}

/* What does not change while a kernel runs, and is not the host's: constants and variables of the
 * program's modules, and the built-in variables. */
bool is_of_module(const void *p)
{
    static const void *seen;
    if (p == seen)
        return true;
    Dl_info module;
    if (!dladdr(p, &module))
        return false;
    seen = p;
    return true;
}

bool is_launch(const unsigned char *p, size_t bytes)
{
    const unsigned char *parameters = (const unsigned char *)emulator_block.body->parameters;
    const unsigned char *self = (const unsigned char *)emulator_self;
    return (p >= parameters && p + bytes <= parameters + emulator_block.body->bytes) ||
           (p >= self && p + bytes <= self + sizeof *emulator_self);
}

} // namespace

void emulator_check_shared(const void *p, size_t bytes, emulator_access access, const char *what)
{
    for (size_t i = 0; emulator_checks && i < bytes; i++) {
        const void *byte = (const unsigned char *)p + i;
        shadow &s = shadow_of(byte);
        if (!is_before(s.write))
            abort_race(s.write, "wrote", byte, what);
        if (access != EMULATOR_ATOMIC && !is_before(s.atomic))
            abort_race(s.atomic, "changed by an atomic", byte, what);
        if (access != EMULATOR_READ && !is_before(s.read))
            abort_race(s.read, "read", byte, what);
        keep(access == EMULATOR_READ ? s.read : access == EMULATOR_WRITE ? s.write : s.atomic);
    }
}

void emulator_check_access(const void *p, size_t bytes, emulator_access access, const char *what)
{
    if (!emulator_self || emulator_in_stacks(p))
        return;
    const unsigned char *begin = (const unsigned char *)p;
    const unsigned char *dynamic = emulator_block.shared;
    if (begin >= dynamic && begin + bytes <= dynamic + emulator_block.shared_bytes)
        emulator_check_shared(p, bytes, access, what);
    else if (emulator_find(p))
        emulator_need_device_memory(p, bytes, what);
    else if (emulator_in_shared_ranges(begin, bytes))
        emulator_check_shared(p, bytes, access, what);
    else if (access != EMULATOR_READ || (!is_launch(begin, bytes) && !is_of_module(p)))
        emulator_abort("%s of %zu bytes at %p, which is %s, nor shared memory of the block", what,
                       bytes, p, emulator_describe_address(p));
}

/* Also called where kernels are not instrumented. */
void emulator_atomic_access(const void *p, size_t bytes)
{
    if ((uintptr_t)p % bytes)
        emulator_abort("atomic: address %p is not a multiple of %zu", p, bytes);
    emulator_check_access(p, bytes, EMULATOR_ATOMIC, "atomic");
}
