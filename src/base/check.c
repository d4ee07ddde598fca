#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void cop_check_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "coppice: %s:%d: invariant broken: %s\n", file, line, condition);
    abort();
}
