#include "base/clock.h"

#include <time.h>

int64_t cop_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * COP_NS_PER_S + t.tv_nsec;
}

void cop_sleep_ns(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / COP_NS_PER_S, .tv_nsec = ns % COP_NS_PER_S};
    nanosleep(&t, NULL);
}
