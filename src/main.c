#include "base/status.h"

#include <stdio.h>

int main(void)
{
    fputs("coppice: nothing is wired up yet\n", stderr);
    return cop_status_exit(COP_ERR_UNSUPPORTED);
}
