/* Talk to people, on stderr. A log belongs to whoever opened it; nothing here is global. */
#ifndef COP_BASE_LOG_H
#define COP_BASE_LOG_H

#include <stdbool.h>
#include <stdio.h>

typedef struct {
    FILE *out;  /* borrowed; NULL: silent */
    int rank;   /* -1: no rank in front of the lines */
    bool quiet; /* only warnings */
} cop_log;

void cop_log_info(const cop_log *log, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cop_log_warn(const cop_log *log, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
