/* Control messages and collectives, with 1 (no mpirun), 2 and 4 ranks. */
#include "require.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"

#include <sched.h>
#include <string.h>

enum {
    MESSAGES = 10000, /* from all ranks to all ranks, themselves included */
    LARGEST = 4 << 20,
    PATTERN = 2 * LARGEST,
    SEED = 20240607,
};

/* What the next message from one rank to another is: both ends draw it from the same stream. The
 * content is a window of one random pattern, so that a lost, doubled, swapped or torn message shows
 * in its size or in its bytes. */
typedef struct {
    cop_rng rng;
    size_t bytes, start;
} stream;

/* Sizes even over octaves, but most of the long ones shortened, or copying them would be the test.
 */
static void advance(stream *s)
{
    uint64_t octave = cop_rng_below(&s->rng, 24);
    if (octave > 16 && cop_rng_below(&s->rng, 8) != 0)
        octave -= 8;
    size_t limit = octave == 23 ? LARGEST + 1 : (size_t)1 << octave;
    s->bytes = (size_t)cop_rng_below(&s->rng, limit); /* octave 0: no bytes */
    s->start = (size_t)cop_rng_below(&s->rng, PATTERN - LARGEST);
}

static stream *open_streams(int size, int rank, bool sending)
{
    stream *streams = cop_calloc((size_t)size, sizeof *streams);
    for (int other = 0; other < size; other++) {
        int pair = sending ? rank * size + other : other * size + rank;
        cop_rng_init(&streams[other].rng, SEED, (uint64_t)pair);
    }
    return streams;
}

static uint8_t *make_pattern(void)
{
    uint8_t *pattern = cop_malloc(PATTERN);
    cop_rng rng;
    cop_rng_init(&rng, SEED, UINT32_MAX);
    for (size_t i = 0; i < PATTERN; i += 8) {
        uint64_t word = cop_rng_u64(&rng);
        memcpy(pattern + i, &word, 8);
    }
    return pattern;
}

static size_t take_all(cop_bus *bus, stream *expected, const uint8_t *pattern)
{
    int from;
    const void *message;
    size_t bytes, taken = 0;
    while (cop_bus_poll(bus, &from, &message, &bytes)) {
        stream *s = &expected[from];
        advance(s);
        REQUIRE(bus, bytes == s->bytes, "%zu bytes from %d instead of %zu", bytes, from, s->bytes);
        REQUIRE(bus, memcmp(message, pattern + s->start, bytes) == 0, "content from %d", from);
        taken++;
    }
    return taken;
}

static void test_all_to_all(cop_bus *bus)
{
    int size = cop_bus_size(bus), rank = cop_bus_rank(bus);
    size_t each = MESSAGES / (size_t)(size * size), taken = 0;
    uint8_t *pattern = make_pattern();
    uint8_t *scratch = cop_malloc(LARGEST);
    stream *sent = open_streams(size, rank, true), *expected = open_streams(size, rank, false);
    for (size_t i = 0; i < each; i++) {
        for (int to = 0; to < size; to++) {
            advance(&sent[to]);
            memcpy(scratch, pattern + sent[to].start, sent[to].bytes);
            cop_bus_send(bus, to, scratch, sent[to].bytes);
            memset(scratch, 0x5a, sent[to].bytes); /* send has copied it */
        }
        if (i % 8 == 7) /* a poll in vain may yield, which is slow on a busy machine */
            taken += take_all(bus, expected, pattern);
    }
    while (taken < each * (size_t)size || !cop_bus_idle(bus)) {
        size_t more = take_all(bus, expected, pattern);
        taken += more;
        if (!more)
            sched_yield();
    }
    cop_bus_barrier(bus);
    REQUIRE(bus, take_all(bus, expected, pattern) == 0, "more messages than were sent");
    cop_bus_barrier(bus); /* nobody sends anything else before all have looked */
    free(sent);
    free(expected);
    free(scratch);
    free(pattern);
}

/* Messages to ourselves come in order, and a long queue of them does not hold up the others: a
 * message from the next rank, sent behind 1000 of our own, comes among the first of them. */
static void test_self(cop_bus *bus)
{
    enum { OWN = 1000, EARLY = 100, ARRIVAL_NS = 20 * COP_NS_PER_MS };
    int rank = cop_bus_rank(bus), size = cop_bus_size(bus), before = (rank + size - 1) % size;
    uint32_t mark = UINT32_MAX, own = 0, others = 0, wanted_others = size > 1;
    for (uint32_t i = 0; i < OWN; i++)
        cop_bus_send(bus, rank, &i, sizeof i);
    if (wanted_others)
        cop_bus_send(bus, (rank + 1) % size, &mark, sizeof mark);
    REQUIRE(bus, !cop_bus_idle(bus), "messages to ourselves are not delivered yet");
    cop_bus_barrier(bus);
    cop_sleep_ns(ARRIVAL_NS);
    while (own < OWN || others < wanted_others) {
        int from;
        const void *message;
        size_t bytes;
        uint32_t value;
        if (!cop_bus_poll(bus, &from, &message, &bytes))
            continue;
        REQUIRE(bus, bytes == sizeof value, "%zu bytes", bytes);
        memcpy(&value, message, sizeof value);
        if (from == rank) {
            REQUIRE(bus, value == own, "%u instead of %u", value, own);
            own++;
        } else {
            REQUIRE(bus, value == mark && from == before, "%u from %d", value, from);
            REQUIRE(bus, own < EARLY, "only after %u of our own", own);
            others++;
        }
    }
    cop_bus_barrier(bus);
}

static void test_collectives(cop_bus *bus)
{
    int size = cop_bus_size(bus), rank = cop_bus_rank(bus);
    enum { BYTES = 3000001 };
    uint8_t *bytes = cop_calloc(BYTES, 1);
    for (size_t i = 0; rank == 0 && i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    cop_bus_broadcast(bus, bytes, BYTES);
    for (size_t i = 0; i < BYTES; i++)
        REQUIRE(bus, bytes[i] == (uint8_t)(i * 7 + i / 251), "byte %zu", i);
    free(bytes);

    uint32_t mine[3] = {(uint32_t)rank, 17, (uint32_t)rank * 1000};
    uint32_t *all = rank == 0 ? cop_calloc((size_t)size, sizeof mine) : NULL;
    cop_bus_gather(bus, mine, sizeof mine, all);
    for (uint32_t r = 0; rank == 0 && r < (uint32_t)size; r++)
        REQUIRE(bus, all[3 * r] == r && all[3 * r + 1] == 17 && all[3 * r + 2] == r * 1000,
                "row %u", r);
    free(all);
    REQUIRE(bus, cop_bus_local_size(bus) == size && cop_bus_local_rank(bus) == rank,
            "local rank %d of %d", cop_bus_local_rank(bus), cop_bus_local_size(bus));
    REQUIRE(bus, strstr(cop_bus_version(bus), "MPI"), "version '%s'", cop_bus_version(bus));
}

/* One host has one clock: the offset is 0 within what the measurement claims for itself, and it
 * claims half of the fastest of at least 9 round trips, whatever else the machine is doing. */
static void test_clock(cop_bus *bus)
{
    int64_t offset = -1, error = -1, began = cop_clock_ns();
    cop_bus_sync_clock(bus, &offset, &error);
    int64_t took = cop_clock_ns() - began;
    REQUIRE(bus, llabs(offset) <= error, "offset %lld ns, error %lld ns", (long long)offset,
            (long long)error);
    REQUIRE(bus, error <= took / (2 * 9) + 1, "error %lld ns after %lld ns", (long long)error,
            (long long)took);
    REQUIRE(bus, (cop_bus_rank(bus) == 0) == (error == 0), "error %lld ns", (long long)error);
    fprintf(stderr, "rank %d: clock offset %lld ns, error %lld ns, took %.1f ms\n",
            cop_bus_rank(bus), (long long)offset, (long long)error, (double)took / 1e6);
}

/* A median of at least 8 round trips: half of them took no less, and all of them fit in the call.
 */
static double measure(cop_bus *bus, size_t bytes)
{
    int64_t began = cop_clock_ns();
    double ns = cop_bus_measure_ns(bus, bytes), took = (double)(cop_clock_ns() - began);
    if (cop_bus_rank(bus) != 0)
        return 0;
    REQUIRE(bus, ns * 2 * 4 <= took, "%zu bytes in %.0f ns, but the call took %.0f", bytes, ns,
            took);
    fprintf(stderr, "ring: %zu B in %.2f us, took %.1f ms\n", bytes, ns / 1e3, took / 1e6);
    return ns;
}

static void test_ring(cop_bus *bus)
{
    enum { LONG = 1 << 20, LEAST_NS = 10, LEAST_LONG_NS = LONG / 1000 /* 1 TB/s */ };
    double small = measure(bus, 64), large = measure(bus, LONG);
    if (cop_bus_rank(bus) != 0)
        return;
    if (cop_bus_size(bus) == 1)
        REQUIRE(bus, small == 0 && large == 0, "one rank has no ring");
    else
        REQUIRE(bus, small > LEAST_NS && large > LEAST_LONG_NS, "%.0f ns, %.0f ns", small, large);
}

/* Nobody listens any more: close must take what is on its way, large and small, and not hang. */
static void leave_messages_behind(cop_bus *bus)
{
    uint8_t *large = cop_calloc(LARGEST, 1);
    for (int to = 0; to < cop_bus_size(bus); to++) {
        cop_bus_send(bus, to, large, LARGEST);
        cop_bus_send(bus, to, large, 1);
    }
    free(large);
}

int main(int argc, char **argv)
{
    cop_bus *bus = open_bus(&argc, &argv);
    test_clock(bus);
    test_ring(bus);
    test_collectives(bus);
    test_self(bus);
    test_all_to_all(bus);
    leave_messages_behind(bus);
    cop_bus_close(bus);
    return 0;
}
