#include "transport/mpi_private.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPARE_PARCELS = 256,         /* empty parcels that are kept */
    SPARE_BYTES = 64 << 10,      /* larger ones are freed */
    SMALLEST_PARCEL = 256,       /* so that most parcels fit most messages */
    TESTED_TOGETHER = 32,        /* sends that one MPI_Testsome looks at */
    BROADCAST_PIECE = 256 << 20, /* bytes; MPI counts are ints */
    CLOSE_SLEEP_NS = 50000,
};

/* ---- parcels ---------------------------------------------------------------------------- */

static void push(cop_parcels *list, cop_parcel parcel)
{
    COP_GROW(list->items, list->capacity, list->count + 1);
    list->items[list->count++] = parcel;
}

static void make_room(cop_parcel *parcel, size_t bytes)
{
    if (parcel->capacity >= bytes && parcel->bytes)
        return;
    free(parcel->bytes);
    parcel->capacity = bytes > SMALLEST_PARCEL ? bytes : SMALLEST_PARCEL;
    parcel->bytes = cop_malloc(parcel->capacity);
}

static cop_parcel pack(cop_bus *bus, const void *message, size_t bytes)
{
    cop_parcel parcel = {0};
    if (bus->spare.count)
        parcel = bus->spare.items[--bus->spare.count];
    make_room(&parcel, bytes);
    parcel.size = bytes;
    if (bytes)
        memcpy(parcel.bytes, message, bytes);
    return parcel;
}

static void unpack(cop_bus *bus, cop_parcel parcel)
{
    if (parcel.capacity <= SPARE_BYTES && bus->spare.count < SPARE_PARCELS)
        push(&bus->spare, parcel);
    else
        free(parcel.bytes);
}

static void free_parcels(cop_parcels *list, size_t from)
{
    for (size_t i = from; i < list->count; i++)
        free(list->items[i].bytes);
    free(list->items);
}

/* ---- open ------------------------------------------------------------------------------- */

static cop_status start_mpi(int *argc, char ***argv, cop_error *err)
{
    /* Without mpirun, Open MPI would start a daemon for ranks that we never spawn: 0.15 s. */
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    int provided;
    COP_MPI_TRY(err, MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided));
    if (provided < MPI_THREAD_FUNNELED)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "this MPI allows no threads at all; MPI_THREAD_FUNNELED is needed");
    COP_MPI_TRY(err, MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    return COP_OK;
}

static cop_status find_neighbours(cop_bus *bus, cop_error *err)
{
    MPI_Comm node;
    COP_MPI_TRY(err, MPI_Comm_dup(MPI_COMM_WORLD, &bus->messages));
    COP_MPI_TRY(err, MPI_Comm_dup(MPI_COMM_WORLD, &bus->collective));
    COP_MPI_TRY(err, MPI_Comm_rank(bus->messages, &bus->rank));
    COP_MPI_TRY(err, MPI_Comm_size(bus->messages, &bus->size));
    COP_MPI_TRY(err, MPI_Comm_split_type(bus->collective, MPI_COMM_TYPE_SHARED, bus->rank,
                                         MPI_INFO_NULL, &node));
    COP_MPI_TRY(err, MPI_Comm_rank(node, &bus->local_rank));
    COP_MPI_TRY(err, MPI_Comm_size(node, &bus->local_size));
    bus->local_first = bus->rank; /* the split kept the order of the ranks */
    COP_MPI_TRY(err, MPI_Bcast(&bus->local_first, 1, MPI_INT, 0, node));
    COP_MPI_TRY(err, MPI_Comm_free(&node));
    int length;
    COP_MPI_TRY(err, MPI_Get_library_version(bus->version, &length));
    bus->version[strcspn(bus->version, "\n")] = '\0';
    return COP_OK;
}

cop_status cop_bus_open(cop_bus **out, int *argc, char ***argv, cop_error *err)
{
    cop_status status = start_mpi(argc, argv, err);
    if (status != COP_OK)
        return status;
    cop_bus *bus = cop_calloc(1, sizeof *bus);
    status = find_neighbours(bus, err);
    if (status != COP_OK) {
        free(bus);
        return status;
    }
    *out = bus;
    return COP_OK;
}

int cop_bus_rank(const cop_bus *bus)
{
    return bus->rank;
}

int cop_bus_size(const cop_bus *bus)
{
    return bus->size;
}

int cop_bus_local_rank(const cop_bus *bus)
{
    return bus->local_rank;
}

int cop_bus_local_size(const cop_bus *bus)
{
    return bus->local_size;
}

int cop_bus_local_first(const cop_bus *bus)
{
    return bus->local_first;
}

const char *cop_bus_version(const cop_bus *bus)
{
    return bus->version;
}

/* ---- send ------------------------------------------------------------------------------- */

void cop_bus_send(cop_bus *bus, int to, const void *message, size_t bytes)
{
    COP_CHECK(to >= 0 && to < bus->size);
    COP_CHECK(bytes <= INT_MAX);
    cop_parcel parcel = pack(bus, message, bytes);
    if (to == bus->rank) {
        push(&bus->local, parcel);
        return;
    }
    MPI_Request request;
    COP_MPI_MUST(MPI_Isend(parcel.bytes, (int)bytes, MPI_BYTE, to, 0, bus->messages, &request));
    push(&bus->outgoing, parcel);
    COP_GROW(bus->requests, bus->requests_capacity, bus->outgoing.count);
    bus->requests[bus->outgoing.count - 1] = request;
}

static void drop_outgoing(cop_bus *bus, size_t i)
{
    size_t last = --bus->outgoing.count;
    unpack(bus, bus->outgoing.items[i]);
    bus->outgoing.items[i] = bus->outgoing.items[last];
    bus->requests[i] = bus->requests[last];
}

static int latest_first(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x > y ? -1 : x < y;
}

/* Tests a few sends, and goes on while some of them had ended: a receiver that does not listen
 * then holds up neither this call nor the parcels to others. One MPI_Testsome makes MPI progress
 * (and perhaps yield) once, where single tests would do so for each. */
static void reap(cop_bus *bus)
{
    int ended = 1;
    while (bus->outgoing.count && ended > 0) {
        if (bus->next_tested >= bus->outgoing.count)
            bus->next_tested = 0;
        size_t first = bus->next_tested, left = bus->outgoing.count - first;
        int count = left < TESTED_TOGETHER ? (int)left : TESTED_TOGETHER;
        int indices[TESTED_TOGETHER];
        COP_MPI_MUST(
            MPI_Testsome(count, bus->requests + first, &ended, indices, MPI_STATUSES_IGNORE));
        /* From the back, so that the last item, which fills the gap, is none of the others. */
        qsort(indices, (size_t)ended, sizeof *indices, latest_first);
        for (int i = 0; i < ended; i++)
            drop_outgoing(bus, first + (size_t)indices[i]);
        bus->next_tested = first + (size_t)(count - ended);
    }
}

bool cop_bus_idle(const cop_bus *bus)
{
    return bus->outgoing.count == 0 && bus->local_head == bus->local.count;
}

/* ---- poll ------------------------------------------------------------------------------- */

static bool poll_local(cop_bus *bus, int *from)
{
    if (bus->local_head == bus->local.count)
        return false;
    unpack(bus, bus->inbox);
    bus->inbox = bus->local.items[bus->local_head++];
    if (2 * bus->local_head >= bus->local.count) { /* close the gap in front */
        bus->local.count -= bus->local_head;
        memmove(bus->local.items, bus->local.items + bus->local_head,
                bus->local.count * sizeof *bus->local.items);
        bus->local_head = 0;
    }
    *from = bus->rank;
    return true;
}

static bool poll_remote(cop_bus *bus, int *from)
{
    if (bus->size == 1)
        return false;
    int found, count;
    MPI_Message match;
    MPI_Status status;
    COP_MPI_MUST(MPI_Improbe(MPI_ANY_SOURCE, 0, bus->messages, &found, &match, &status));
    if (!found)
        return false;
    COP_MPI_MUST(MPI_Get_count(&status, MPI_BYTE, &count));
    make_room(&bus->inbox, (size_t)count);
    bus->inbox.size = (size_t)count;
    COP_MPI_MUST(MPI_Mrecv(bus->inbox.bytes, count, MPI_BYTE, &match, MPI_STATUS_IGNORE));
    *from = status.MPI_SOURCE;
    return true;
}

bool cop_bus_poll(cop_bus *bus, int *from, const void **message, size_t *bytes)
{
    reap(bus);
    bus->local_turn = !bus->local_turn;
    bool found = bus->local_turn ? poll_local(bus, from) || poll_remote(bus, from)
                                 : poll_remote(bus, from) || poll_local(bus, from);
    if (found) {
        *message = bus->inbox.bytes;
        *bytes = bus->inbox.size;
    }
    return found;
}

/* ---- collectives ------------------------------------------------------------------------ */

void cop_bus_barrier(cop_bus *bus)
{
    MPI_Request request;
    COP_MPI_MUST(MPI_Ibarrier(bus->collective, &request));
    cop_mpi_wait(&request, MPI_STATUS_IGNORE);
}

void cop_bus_broadcast(cop_bus *bus, void *bytes, size_t count)
{
    uint8_t *at = bytes;
    while (count) {
        size_t piece = count < BROADCAST_PIECE ? count : BROADCAST_PIECE;
        MPI_Request request;
        COP_MPI_MUST(MPI_Ibcast(at, (int)piece, MPI_BYTE, 0, bus->collective, &request));
        cop_mpi_wait(&request, MPI_STATUS_IGNORE);
        at += piece;
        count -= piece;
    }
}

void cop_bus_gather(cop_bus *bus, const void *mine, size_t count, void *all)
{
    COP_CHECK(count <= INT_MAX);
    MPI_Request request;
    COP_MPI_MUST(MPI_Igather(mine, (int)count, MPI_BYTE, all, (int)count, MPI_BYTE, 0,
                             bus->collective, &request));
    cop_mpi_wait(&request, MPI_STATUS_IGNORE);
}

/* ---- close ------------------------------------------------------------------------------ */

/* Takes and drops whatever comes until every rank's sends have ended: a rank enters the barrier
 * when its own have. If a rank has died, the launcher ends the others: they sleep in here. */
static void drain(cop_bus *bus)
{
    MPI_Request request = MPI_REQUEST_NULL;
    bool entered = false;
    int done = 0;
    while (!done) {
        int from;
        const void *message;
        size_t bytes;
        bool busy = cop_bus_poll(bus, &from, &message, &bytes);
        if (!entered && bus->outgoing.count == 0) {
            COP_MPI_MUST(MPI_Ibarrier(bus->collective, &request));
            entered = true;
        }
        if (entered)
            COP_MPI_MUST(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
        if (!done && !busy)
            cop_sleep_ns(CLOSE_SLEEP_NS);
    }
}

void cop_bus_keep(cop_bus *bus, void *memory)
{
    push(&bus->kept, (cop_parcel){.bytes = memory});
}

void cop_bus_close(cop_bus *bus)
{
    if (!bus)
        return;
    drain(bus);
    COP_MPI_MUST(MPI_Comm_free(&bus->messages));
    COP_MPI_MUST(MPI_Comm_free(&bus->collective));
    COP_MPI_MUST(MPI_Finalize());
    free_parcels(&bus->outgoing, 0);
    free_parcels(&bus->local, bus->local_head);
    free_parcels(&bus->spare, 0);
    free_parcels(&bus->kept, 0);
    free(bus->inbox.bytes);
    free(bus->requests);
    free(bus);
}

void cop_bus_abort(cop_bus *bus, int exit_status)
{
    MPI_Abort(bus->messages, exit_status);
    _Exit(exit_status);
}

const cop_bus_calls cop_bus_calls_mpi = {
    .rank = cop_bus_rank,
    .size = cop_bus_size,
    .broadcast = cop_bus_broadcast,
    .gather = cop_bus_gather,
};
