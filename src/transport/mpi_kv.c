/* KV blocks over MPI.
 *
 * A transfer of n blocks is n + 1 messages with one tag, in order: the blocks, each from and to
 * where it lives, then a trailer. Up to WINDOW of them are with MPI at a time.
 *
 *     posted --> start --(link model: block k is due)--> Isend k ... Isend n-1 --> trailer --> done
 *
 * The link model decides when a block may be handed to MPI: at the moment its last byte would have
 * arrived. The transfer reserves the sender's link as a whole when it is posted, so transfers share
 * the link first come first served, exactly as the simulator computes them, and a late poll is
 * caught up with instead of delaying all that follows.
 *
 * The trailer, sent synchronously: the sender's "done" means that the blocks are there.
 *     offset  type  meaning
 *      0      u64   transfer
 *      8      i64   wait_ns, which only the sender knows
 *     16      i64   start on rank 0's clock, ns                                                  */
#include "transport/mpi_private.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 32,
    CLOSE_NS = 200 * COP_NS_PER_MS, /* patience with messages that can't be cancelled any more */
};

typedef struct {
    uint64_t transfer;
    int64_t wait_ns, start_ns;
} trailer;
_Static_assert(sizeof(trailer) == 24, "the trailer is a message: see the table above");

typedef struct {
    uint64_t id;
    bool outgoing;
    int peer, tag;
    void **blocks;              /* [count], the array is owned, the blocks are borrowed */
    uint32_t count;             /* of blocks; message number `count` is the trailer */
    uint32_t posted, finished;  /* messages handed to MPI, and ended; in order */
    MPI_Request window[WINDOW]; /* message k uses slot k % WINDOW */
    int64_t start_ns;           /* outgoing, our clock: when the link is free for us */
    trailer end;
} transfer;

struct cop_kv {
    cop_bus *bus; /* borrowed */
    MPI_Comm blocks;
    size_t block_bytes;
    uint64_t tags;
    cop_link link; /* our outgoing one */

    transfer **active; /* in the order in which they were posted */
    size_t active_count, active_capacity;
    MPI_Request *heads; /* of each active transfer, the message that ends next; scratch */
    int *indices;       /* scratch of MPI_Testsome */
    size_t heads_capacity, indices_capacity;

    cop_kv_done *done; /* ended, not yet reported: from done_head on */
    size_t done_head, done_count, done_capacity;
};

/* ---- open ------------------------------------------------------------------------------- */

static cop_status kv_connect(cop_kv *kv, cop_error *err)
{
    COP_MPI_TRY(err, MPI_Comm_dup(MPI_COMM_WORLD, &kv->blocks));
    int *upper_bound, found;
    COP_MPI_TRY(err, MPI_Comm_get_attr(kv->blocks, MPI_TAG_UB, &upper_bound, &found));
    COP_CHECK(found && *upper_bound >= 32767); /* the standard's promise */
    kv->tags = (uint64_t)*upper_bound + 1;
    return COP_OK;
}

static cop_status kv_open(cop_kv **out, const cop_kv_options *options, cop_error *err)
{
    const size_t block_bytes = options->block_bytes;
    if (block_bytes == 0 || block_bytes > INT_MAX)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "KV blocks of %zu bytes: an MPI message holds 1 to %d; choose fewer "
                        "cache.block_tokens",
                        block_bytes, INT_MAX);
    cop_kv *kv = cop_calloc(1, sizeof *kv);
    kv->bus = options->bus;
    kv->block_bytes = block_bytes;
    cop_link_init(&kv->link, options->link_latency_us, options->link_bandwidth_mb_s);
    cop_status status = kv_connect(kv, err);
    if (status != COP_OK) {
        free(kv);
        return status;
    }
    *out = kv;
    return COP_OK;
}

/* MPI matches by tag: any order of posting will do. */
static void kv_expect(cop_kv *kv, uint64_t id) {}

static void kv_forget(cop_kv *kv, uint64_t id) {}

/* ---- post ------------------------------------------------------------------------------- */

static transfer *add_transfer(cop_kv *kv, uint64_t id, int peer, void *const *blocks,
                              uint32_t count)
{
    COP_CHECK(peer >= 0 && peer < kv->bus->size && peer != kv->bus->rank);
    transfer *t = cop_calloc(1, sizeof *t);
    t->id = id;
    t->peer = peer;
    t->tag = (int)(id % kv->tags);
    t->count = count;
    t->blocks = cop_malloc(count * sizeof *blocks);
    if (count)
        memcpy(t->blocks, blocks, count * sizeof *blocks);
    COP_GROW(kv->active, kv->active_capacity, kv->active_count + 1);
    kv->active[kv->active_count++] = t;
    return t;
}

/* Two transfers of one direction with one tag would take each other's blocks. */
static void check_tag(const cop_kv *kv, const transfer *new)
{
    for (size_t i = 0; i + 1 < kv->active_count; i++) {
        const transfer *t = kv->active[i];
        COP_CHECK(t->tag != new->tag || t->peer != new->peer || t->outgoing != new->outgoing);
    }
}

static void kv_send(cop_kv *kv, uint64_t id, int to, void *const *blocks, uint32_t count)
{
    transfer *t = add_transfer(kv, id, to, blocks, count);
    t->outgoing = true;
    check_tag(kv, t);
    int64_t now = cop_clock_ns(), wait = cop_link_wait_ns(&kv->link, now);
    cop_link_reserve(&kv->link, now, count * (uint64_t)kv->block_bytes);
    t->start_ns = now + wait;
    t->end = (trailer){id, wait, t->start_ns + kv->bus->clock_offset_ns};
}

static void kv_receive(cop_kv *kv, uint64_t id, int from, void *const *blocks, uint32_t count)
{
    check_tag(kv, add_transfer(kv, id, from, blocks, count));
}

/* ---- progress --------------------------------------------------------------------------- */

/* When the last byte of message k arrives by the link model. The trailer weighs nothing. */
static int64_t due_ns(const cop_kv *kv, const transfer *t, uint32_t k)
{
    uint64_t bytes = (k < t->count ? k + 1 : (uint64_t)t->count) * kv->block_bytes;
    return t->start_ns + (int64_t)((double)bytes * kv->link.ns_per_byte) + kv->link.latency_ns;
}

static void post_message(cop_kv *kv, transfer *t)
{
    uint32_t k = t->posted++;
    MPI_Request *request = &t->window[k % WINDOW];
    bool last = k == t->count;
    void *bytes = last ? (void *)&t->end : t->blocks[k];
    int size = last ? (int)sizeof t->end : (int)kv->block_bytes;
    if (!t->outgoing)
        COP_MPI_MUST(MPI_Irecv(bytes, size, MPI_BYTE, t->peer, t->tag, kv->blocks, request));
    else if (last)
        COP_MPI_MUST(MPI_Issend(bytes, size, MPI_BYTE, t->peer, t->tag, kv->blocks, request));
    else
        COP_MPI_MUST(MPI_Isend(bytes, size, MPI_BYTE, t->peer, t->tag, kv->blocks, request));
}

static void fill_window(cop_kv *kv, transfer *t, int64_t now_ns)
{
    while (t->posted <= t->count && t->posted - t->finished < WINDOW &&
           (!t->outgoing || now_ns >= due_ns(kv, t, t->posted)))
        post_message(kv, t);
}

/* Each transfer ends its messages in order, so only its oldest is tested: all of them in one
 * MPI_Testsome, which makes MPI progress (and perhaps yields the core) once. */
static int test_heads(cop_kv *kv)
{
    size_t n = kv->active_count;
    COP_GROW(kv->heads, kv->heads_capacity, n);
    COP_GROW(kv->indices, kv->indices_capacity, n);
    for (size_t i = 0; i < n; i++) {
        transfer *t = kv->active[i];
        kv->heads[i] = t->finished < t->posted ? t->window[t->finished % WINDOW] : MPI_REQUEST_NULL;
    }
    int ended;
    COP_MPI_MUST(MPI_Testsome((int)n, kv->heads, &ended, kv->indices, MPI_STATUSES_IGNORE));
    if (ended == MPI_UNDEFINED) /* nothing is with MPI: all wait for the link model */
        return 0;
    for (int i = 0; i < ended; i++)
        kv->active[kv->indices[i]]->finished++;
    return ended;
}

static void report(cop_kv *kv, const transfer *t)
{
    COP_CHECK(t->end.transfer == t->id);
    cop_kv_done done = {
        .transfer = t->id,
        .sent = t->outgoing,
        .bytes = t->count * (uint64_t)kv->block_bytes,
        .wait_ns = t->end.wait_ns,
        .wire_ns = cop_clock_ns() + kv->bus->clock_offset_ns - t->end.start_ns,
    };
    COP_GROW(kv->done, kv->done_capacity, kv->done_count + 1);
    kv->done[kv->done_count++] = done;
}

static void retire(cop_kv *kv)
{
    size_t kept = 0;
    for (size_t i = 0; i < kv->active_count; i++) {
        transfer *t = kv->active[i];
        if (t->finished <= t->count) {
            kv->active[kept++] = t;
            continue;
        }
        report(kv, t);
        free(t->blocks);
        free(t);
    }
    kv->active_count = kept;
}

static void progress(cop_kv *kv)
{
    int ended = 1;
    while (ended && kv->active_count) {
        int64_t now = cop_clock_ns();
        for (size_t i = 0; i < kv->active_count; i++)
            fill_window(kv, kv->active[i], now);
        ended = test_heads(kv);
        if (ended)
            retire(kv);
    }
}

static cop_status kv_poll(cop_kv *kv, cop_kv_done *done, bool *ended, cop_error *err)
{
    if (kv->done_head == kv->done_count) {
        kv->done_head = kv->done_count = 0;
        progress(kv);
    }
    *ended = kv->done_head < kv->done_count;
    if (*ended)
        *done = kv->done[kv->done_head++];
    return COP_OK;
}

static bool kv_idle(const cop_kv *kv)
{
    return kv->active_count == 0 && kv->done_head == kv->done_count;
}

/* ---- close ------------------------------------------------------------------------------ */

/* A receive without a partner is cancelled. A message that has met its partner, or a send, can't
 * be: it gets a moment to end, as the memory goes back to the caller, and is then let go. */
static void cancel(cop_kv *kv, transfer *t, int64_t until_ns)
{
    bool left = false;
    for (; t->finished < t->posted; t->finished++) {
        MPI_Request *request = &t->window[t->finished % WINDOW];
        int done = 0;
        if (!t->outgoing)
            COP_MPI_MUST(MPI_Cancel(request));
        do
            COP_MPI_MUST(MPI_Test(request, &done, MPI_STATUS_IGNORE));
        while (!done && cop_clock_ns() < until_ns);
        if (!done)
            COP_MPI_MUST(MPI_Request_free(request));
        left |= !done;
    }
    free(t->blocks);
    if (left)
        cop_bus_keep(kv->bus, t); /* its trailer may still be MPI's */
    else
        free(t);
}

static void kv_close(cop_kv *kv)
{
    if (!kv)
        return;
    int64_t until = cop_clock_ns() + CLOSE_NS;
    for (size_t i = 0; i < kv->active_count; i++)
        cancel(kv, kv->active[i], until);
    COP_MPI_MUST(MPI_Comm_free(&kv->blocks));
    free(kv->active);
    free(kv->heads);
    free(kv->indices);
    free(kv->done);
    free(kv);
}

const cop_kv_ops cop_kv_mpi = {
    .abi = COP_KV_ABI,
    .name = "mpi",
    .device_memory = false,
    .open = kv_open,
    .close = kv_close,
    .expect = kv_expect,
    .forget = kv_forget,
    .send = kv_send,
    .receive = kv_receive,
    .poll = kv_poll,
    .idle = kv_idle,
};
