/* The calls that -fsanitize=thread puts into kernels. The names are the compiler's. */
#include "check.h"
#include "emulator.h"
#include <stdint.h>

#define HOOK(name, size, access, align)                                                 \
    extern "C" void __tsan_##name(const void *p)                                        \
    {                                                                                   \
        if ((uintptr_t)p % (align))                                                     \
            emulator_abort("%s at %p, which is not a multiple of %d", #name, p, align); \
        emulator_check_access(p, size, access, #name);                                  \
    }
/* The compiler promises no more for 16 bytes. */
#define ALIGNMENT(size) (size < 8 ? size : 8)
#define HOOKS(size)                                          \
    HOOK(read##size, size, EMULATOR_READ, ALIGNMENT(size))   \
    HOOK(write##size, size, EMULATOR_WRITE, ALIGNMENT(size)) \
    HOOK(volatile_read##size, size, EMULATOR_READ, 1)        \
    HOOK(volatile_write##size, size, EMULATOR_WRITE, 1)      \
    HOOK(unaligned_read##size, size, EMULATOR_READ, 1)       \
    HOOK(unaligned_write##size, size, EMULATOR_WRITE, 1)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

extern "C" void __tsan_read_range(const void *p, size_t bytes)
{
    emulator_check_access(p, bytes, EMULATOR_READ, "read");
}

extern "C" void __tsan_write_range(const void *p, size_t bytes)
{
    emulator_check_access(p, bytes, EMULATOR_WRITE, "write");
}

/* When the program begins, for every instrumented source. */
extern "C" void __tsan_init()
{
    emulator_checks = true;
}

extern "C" void __tsan_func_entry(void *) {}

extern "C" void __tsan_func_exit(void *) {}

extern "C" void __tsan_vptr_update(void *, void *) {}

extern "C" void __tsan_vptr_read(void *) {}
