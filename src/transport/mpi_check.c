#include "transport/mpi_private.h"

#include "base/clock.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DESCRIPTION = 512 };

static void describe(char *text, int code, const char *call, const char *file, int line)
{
    char reason[MPI_MAX_ERROR_STRING] = "";
    int rank = -1, length;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Error_string(code, reason, &length);
    snprintf(text, DESCRIPTION, "rank %d: %.*s: %s (%s:%d)", rank, (int)strcspn(call, "("), call,
             reason, file, line);
}

cop_status cop_mpi_fail(cop_error *err, int code, const char *call, const char *file, int line)
{
    char text[DESCRIPTION];
    describe(text, code, call, file, line);
    return cop_fail(err, COP_ERR_TRANSPORT, "%s", text);
}

void cop_mpi_stop(int code, const char *call, const char *file, int line)
{
    char text[DESCRIPTION];
    describe(text, code, call, file, line);
    fprintf(stderr, "coppice: %s\n", text);
    MPI_Abort(MPI_COMM_WORLD, cop_status_exit(COP_ERR_TRANSPORT));
    abort();
}

/* A round trip on an idle machine takes a few dozen tests; a sleep costs its length and the timer
 * slack, about 0.1 ms, which only matters to someone who waits longer than that anyway. */
void cop_mpi_wait(MPI_Request *request, MPI_Status *status)
{
    enum { TESTS = 100, YIELDS = 400, SLEEP_NS = 50000 };
    for (int i = 0;; i++) {
        int done;
        COP_MPI_MUST(MPI_Test(request, &done, status));
        if (done)
            return;
        if (i >= TESTS + YIELDS)
            cop_sleep_ns(SLEEP_NS);
        else if (i >= TESTS)
            sched_yield();
    }
}
