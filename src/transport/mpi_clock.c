/* Clock offsets and ring latency. Both take every pair in turn while the other ranks sleep in a
 * barrier, so that ranks that share cores do not disturb what is measured. */
#include "transport/mpi_private.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/median.h"

#include <limits.h>
#include <stdlib.h>

#include "base/check.h"

/* The asking side decides how many round trips there are; the tag of a ping tells the other. */
enum { TAG_MORE = 1, TAG_LAST = 2, TAG_ANSWER = 3 };

enum {
    FEWEST_TRIPS = 9,
    MOST_TRIPS = 200,
    BUDGET_NS = 2 * COP_NS_PER_MS, /* for each pair, once the fewest are done */
};

static void post(cop_bus *bus, int to, int tag, const void *bytes, size_t count)
{
    MPI_Request request;
    COP_MPI_MUST(MPI_Isend(bytes, (int)count, MPI_BYTE, to, tag, bus->collective, &request));
    cop_mpi_wait(&request, MPI_STATUS_IGNORE);
}

/* Returns the tag that came. */
static int take(cop_bus *bus, int from, int tag, void *bytes, size_t count)
{
    MPI_Request request;
    MPI_Status status;
    COP_MPI_MUST(MPI_Irecv(bytes, (int)count, MPI_BYTE, from, tag, bus->collective, &request));
    cop_mpi_wait(&request, &status);
    return status.MPI_TAG;
}

static int tag_of_trip(int trip, int64_t began_ns)
{
    bool enough = trip + 1 >= FEWEST_TRIPS && cop_clock_ns() - began_ns > BUDGET_NS;
    return enough || trip + 1 == MOST_TRIPS ? TAG_LAST : TAG_MORE;
}

/* ---- clock ------------------------------------------------------------------------------ */

static void answer_clock(cop_bus *bus, int from)
{
    int tag;
    do {
        tag = take(bus, from, MPI_ANY_TAG, NULL, 0);
        int64_t now = cop_clock_ns();
        post(bus, from, TAG_ANSWER, &now, sizeof now);
    } while (tag != TAG_LAST);
}

/* Rank 0 read its clock at some moment of our round trip: the middle is off by half at most. */
static void ask_clock(cop_bus *bus, int64_t *offset_ns, int64_t *error_ns)
{
    int64_t began = cop_clock_ns(), best = INT64_MAX;
    int tag = TAG_MORE;
    for (int trip = 0; tag != TAG_LAST; trip++) {
        tag = tag_of_trip(trip, began);
        int64_t theirs, asked = cop_clock_ns();
        post(bus, 0, tag, NULL, 0);
        take(bus, 0, TAG_ANSWER, &theirs, sizeof theirs);
        int64_t trip_ns = cop_clock_ns() - asked;
        if (trip_ns < best) {
            best = trip_ns;
            *offset_ns = theirs - (asked + trip_ns / 2);
            *error_ns = (trip_ns + 1) / 2;
        }
    }
}

void cop_bus_sync_clock(cop_bus *bus, int64_t *offset_ns, int64_t *error_ns)
{
    *offset_ns = *error_ns = 0;
    for (int turn = 1; turn < bus->size; turn++) {
        if (bus->rank == 0)
            answer_clock(bus, turn);
        else if (bus->rank == turn)
            ask_clock(bus, offset_ns, error_ns);
        cop_bus_barrier(bus);
    }
    bus->clock_offset_ns = *offset_ns;
}

/* ---- ring ------------------------------------------------------------------------------- */

static void answer_ping(cop_bus *bus, int from, void *bytes, size_t count)
{
    int tag;
    do {
        tag = take(bus, from, MPI_ANY_TAG, bytes, count);
        post(bus, from, TAG_ANSWER, bytes, count);
    } while (tag != TAG_LAST);
}

/* Median of half a round trip; the first one, which warms pages and connection up, is left out. */
static double ping(cop_bus *bus, int to, void *bytes, size_t count)
{
    double half_ns[MOST_TRIPS];
    int64_t began = cop_clock_ns();
    int tag = TAG_MORE, trips = 0;
    for (; tag != TAG_LAST; trips++) {
        tag = tag_of_trip(trips, began);
        int64_t asked = cop_clock_ns();
        post(bus, to, tag, bytes, count);
        take(bus, to, TAG_ANSWER, bytes, count);
        half_ns[trips] = (double)(cop_clock_ns() - asked) / 2;
    }
    return cop_median(half_ns + 1, (size_t)trips - 1);
}

double cop_bus_measure_ns(cop_bus *bus, size_t bytes)
{
    if (bus->size == 1)
        return 0;
    COP_CHECK(bytes <= INT_MAX);
    void *buffer = cop_calloc(bytes, 1);
    double mine = 0, largest = 0;
    for (int turn = 0; turn < bus->size; turn++) {
        int next = (turn + 1) % bus->size;
        if (bus->rank == turn)
            mine = ping(bus, next, buffer, bytes);
        else if (bus->rank == next)
            answer_ping(bus, turn, buffer, bytes);
        cop_bus_barrier(bus);
    }
    free(buffer);
    MPI_Request request;
    COP_MPI_MUST(
        MPI_Ireduce(&mine, &largest, 1, MPI_DOUBLE, MPI_MAX, 0, bus->collective, &request));
    cop_mpi_wait(&request, MPI_STATUS_IGNORE);
    return largest;
}
