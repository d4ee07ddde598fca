/* The machine's monotonic clock. The core never reads it: time reaches the core inside events. */
#ifndef COP_BASE_CLOCK_H
#define COP_BASE_CLOCK_H

#include <stdint.h>

enum { COP_NS_PER_US = 1000, COP_NS_PER_MS = 1000000, COP_NS_PER_S = 1000000000 };

int64_t cop_clock_ns(void); /* monotonic, ns; comparable between processes of one host */
void cop_sleep_ns(int64_t ns);

#endif
