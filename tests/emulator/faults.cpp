#include "faults.h"
#include "runtime.h"
#include <string.h>
#include <sys/mman.h>

static void on_fault(int number, siginfo_t *info, void *)
{
    signal(number, SIG_DFL);
    emulator_abort("%s at address %p, which is %s", strsignal(number), info->si_addr,
                   emulator_describe_address(info->si_addr));
}

/* A stack of its own: a thread's may be what overflowed. */
static void give_signal_stack()
{
    static thread_local bool given;
    if (given)
        return;
    constexpr size_t bytes = 64 * 1024;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {};
    stack.ss_sp = memory;
    stack.ss_size = bytes;
    if (memory == MAP_FAILED || sigaltstack(&stack, NULL))
        emulator_abort("no memory for a stack of signals");
    given = true;
}

emulator_faults::emulator_faults()
{
    give_signal_stack();
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &segv);
    sigaction(SIGBUS, &action, &bus);
    sigaction(SIGFPE, &action, &fpe);
    sigaction(SIGILL, &action, &ill);
}

emulator_faults::~emulator_faults()
{
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGBUS, &bus, NULL);
    sigaction(SIGFPE, &fpe, NULL);
    sigaction(SIGILL, &ill, NULL);
}
