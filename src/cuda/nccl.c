/* KV blocks over NCCL, straight from and to the pools on the GPUs.
 *
 *     posted -> its turn -(link model: link free)-> header -(link model: due)-> blocks -> done
 *                           ncclSend                          groups of up to 256 ncclSend
 *
 * Order. A rank launches its transfers in the order of their ids, one after another on one stream; a
 * transfer waits until all that were announced before it have been launched or forgotten. This
 * cannot deadlock. Take the unfinished transfer with the smallest id: at both of its ends all before
 * it are finished or forgotten, so both have launched it, or will without waiting for anything else,
 * and its operations are at the head of both streams. They are of one pair and one direction, in the
 * same order at both ends, so they match and end; then the next one is the smallest.
 *
 * Why transfers do not share a group: NCCL works off a long group in batches, and on a channel a
 * batch begins when the one before it has ended. A group {A to B, A to C} would hold up the rest of
 * its first transfer for the beginning of the second, and the induction would not hold: C may be
 * waiting for B, and B for the rest of its blocks from A. The price is that a rank moves one transfer
 * at a time, in one direction.
 *
 * The header tells the receiver that the sender has begun, so that wire_ns, by events of the GPU at
 * either end, is the time of the blocks and not that of waiting for the sender, who waits for our
 * answer first; and it holds both ends to the same transfer.
 *
 * Link model: the sender's link is reserved as a whole when the transfer's turn comes, and the blocks
 * are launched at the moment when the last byte would have arrived, at either end: the header says
 * when. So a transfer is done no sooner than the model says, and later by what NCCL really takes. transport.timeout_s must
 * be longer than what may be queued on a peer's link.
 *
 * The communicator is non-blocking: no call waits for a peer, and between a group and what follows
 * it the communicator is polled. All connections are made when it opens (nccl_open.c). */
#include "cuda/nccl_private.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* ---- post ------------------------------------------------------------------------------- */

static void kv_expect(cop_kv *kv, uint64_t id)
{
    cop_turns_expect(&kv->turns, id);
}

static void kv_forget(cop_kv *kv, uint64_t id)
{
    cop_turns_forget(&kv->turns, id);
}

static bool nothing_posted(const cop_kv *kv)
{
    return kv->turns.posted == 0 && kv->flying_count == 0;
}

static void post(cop_kv *kv, bool outgoing, uint64_t id, int peer, void *const *blocks,
                 uint32_t count)
{
    COP_CHECK(peer >= kv->first_rank && peer < kv->first_rank + kv->size);
    cop_nccl_transfer *t = cop_calloc(1, sizeof *t);
    t->id = id;
    t->outgoing = outgoing;
    t->peer = peer - kv->first_rank;
    COP_CHECK(t->peer != kv->rank);
    t->count = count;
    t->blocks = cop_malloc(count * sizeof *blocks);
    if (count)
        memcpy(t->blocks, blocks, count * sizeof *blocks);
    t->posted_ns = cop_clock_ns();
    if (nothing_posted(kv))
        kv->progress_ns = t->posted_ns;
    cop_turns_post(&kv->turns, id, t);
}

static void kv_send(cop_kv *kv, uint64_t id, int to, void *const *blocks, uint32_t count)
{
    post(kv, true, id, to, blocks, count);
}

static void kv_receive(cop_kv *kv, uint64_t id, int from, void *const *blocks, uint32_t count)
{
    post(kv, false, id, from, blocks, count);
}

/* ---- launch ----------------------------------------------------------------------------- */

static cop_nccl_transfer *newest(const cop_kv *kv)
{
    if (kv->flying_count == 0)
        return NULL;
    return kv->flying[(kv->oldest + kv->flying_count - 1) % IN_FLIGHT];
}

static cop_nccl_transfer *take_turn(cop_kv *kv, int64_t now_ns)
{
    cop_nccl_transfer *t = cop_turns_next(&kv->turns);
    if (!t || kv->flying_count == IN_FLIGHT)
        return NULL;
    cop_turns_take(&kv->turns);
    t->slot = (uint32_t)(kv->taken++ % IN_FLIGHT);
    kv->flying[(kv->oldest + kv->flying_count++) % IN_FLIGHT] = t;
    if (t->outgoing) {
        t->start_ns = now_ns + cop_link_wait_ns(&kv->link, now_ns);
        t->due_ns = cop_link_reserve(&kv->link, now_ns, t->count * (uint64_t)kv->block_bytes);
    }
    return t;
}

/* Blocks [launched, launched + count) of the transfer, or the header where `header` says where. */
static cop_status launch_group(cop_kv *kv, cop_nccl_transfer *t, void *const *buffers,
                               uint32_t count, size_t bytes, cop_error *err)
{
    COP_NCCL_TRY(err, kv->comm, ncclGroupStart());
    ncclResult_t posted = ncclSuccess;
    for (uint32_t i = 0; i < count && (posted == ncclSuccess || posted == ncclInProgress); i++)
        posted = t->outgoing
                     ? ncclSend(buffers[i], bytes, ncclUint8, t->peer, kv->comm, kv->stream)
                     : ncclRecv(buffers[i], bytes, ncclUint8, t->peer, kv->comm, kv->stream);
    ncclResult_t ended = ncclGroupEnd();
    if (posted != ncclSuccess && posted != ncclInProgress)
        return cop_nccl_fail(err, posted, kv->comm, t->outgoing ? "ncclSend" : "ncclRecv", __FILE__,
                             __LINE__);
    if (ended != ncclSuccess && ended != ncclInProgress)
        return cop_nccl_fail(err, ended, kv->comm, "ncclGroupEnd", __FILE__, __LINE__);
    kv->launching = true;
    return COP_OK;
}

static cop_status launch_header(cop_kv *kv, cop_nccl_transfer *t, int64_t now_ns, cop_error *err)
{
    cop_nccl_header *host = &kv->headers_host[t->slot];
    void *device = &kv->headers[t->slot];
    *host = (cop_nccl_header){0};
    if (t->outgoing) {
        t->wait_ns = now_ns - t->posted_ns;
        *host = (cop_nccl_header){t->id, t->wait_ns, t->due_ns - t->start_ns};
        COP_CUDA_TRY(
            err, cudaMemcpyAsync(device, host, sizeof *host, cudaMemcpyHostToDevice, kv->stream));
    } else {
        cop_status status = cop_cuda_fence(kv->device, kv->stream, err);
        if (status != COP_OK)
            return status;
    }
    return launch_group(kv, t, &device, 1, sizeof *host, err);
}

static cop_status launch(cop_kv *kv, cop_nccl_transfer *t, int64_t now_ns, cop_error *err)
{
    if (t->stage == COP_NCCL_HEADER)
        return launch_header(kv, t, now_ns, err);
    uint32_t left = t->count - t->launched, count = left < GROUP_BLOCKS ? left : GROUP_BLOCKS;
    cop_status status = launch_group(kv, t, t->blocks + t->launched, count, kv->block_bytes, err);
    t->launched += count;
    return status;
}

/* The group that was being launched is on the stream now: events come after it. */
static cop_status note_launched(cop_kv *kv, cop_nccl_transfer *t, cop_error *err)
{
    kv->launching = false;
    kv->progress_ns = cop_clock_ns();
    if (t->stage == COP_NCCL_HEADER) {
        if (!t->outgoing)
            COP_CUDA_TRY(err, cudaMemcpyAsync(&kv->headers_host[t->slot], &kv->headers[t->slot],
                                              sizeof(cop_nccl_header), cudaMemcpyDeviceToHost,
                                              kv->stream));
        COP_CUDA_TRY(err, cudaEventRecord(kv->begun[t->slot], kv->stream));
        t->stage = COP_NCCL_BLOCKS;
    }
    if (t->launched == t->count) {
        COP_CUDA_TRY(err, cudaEventRecord(kv->ended[t->slot], kv->stream));
        t->stage = COP_NCCL_LAUNCHED;
    }
    return COP_OK;
}

/* A receiver learns from the header how long the link takes, and asks NCCL for the blocks then: a
 * receive that waits on the GPU takes multiprocessors from the compute. */
static bool held_by_link(cop_kv *kv, const cop_nccl_transfer *t, int64_t now_ns)
{
    const bool throttled = kv->link.ns_per_byte > 0 || kv->link.latency_ns > 0;
    const bool header = t->stage == COP_NCCL_HEADER;
    if (!throttled || (header && !t->outgoing))
        return false;
    if (!header && !t->outgoing && !t->begun)
        return true;
    if (now_ns >= (header ? t->start_ns : t->due_ns))
        return false;
    kv->progress_ns = now_ns; /* nobody is to blame */
    return true;
}

static cop_status launch_what_may(cop_kv *kv, cop_error *err)
{
    for (;;) {
        bool busy;
        cop_status status = cop_nccl_state(kv, &busy, err);
        if (status != COP_OK || busy)
            return status;
        cop_nccl_transfer *t = newest(kv);
        if (kv->launching)
            status = note_launched(kv, t, err);
        int64_t now_ns = cop_clock_ns();
        if (!t || t->stage == COP_NCCL_LAUNCHED)
            t = take_turn(kv, now_ns);
        if (status != COP_OK || !t || held_by_link(kv, t, now_ns))
            return status;
        status = launch(kv, t, now_ns, err);
        if (status != COP_OK)
            return status;
    }
}

/* ---- progress --------------------------------------------------------------------------- */

static cop_status query(cudaEvent_t event, bool *done, cop_error *err)
{
    cudaError_t result = cudaEventQuery(event);
    *done = result == cudaSuccess;
    if (result != cudaSuccess && result != cudaErrorNotReady)
        return cop_cuda_fail(err, result, "cudaEventQuery", __FILE__, __LINE__);
    return COP_OK;
}

static cop_status note_begun(cop_kv *kv, cop_nccl_transfer *t, cop_error *err)
{
    const cop_nccl_header *header = &kv->headers_host[t->slot];
    cop_status status = query(kv->begun[t->slot], &t->begun, err);
    if (status != COP_OK || !t->begun)
        return status;
    kv->progress_ns = cop_clock_ns();
    if (header->transfer != t->id)
        return cop_fail(err, COP_ERR_TRANSPORT,
                        "rank %d sent transfer %llu where transfer %llu was its turn",
                        t->peer + kv->first_rank, (unsigned long long)header->transfer,
                        (unsigned long long)t->id);
    t->wait_ns = header->wait_ns;
    if (!t->outgoing)
        t->due_ns = kv->progress_ns + header->hold_ns;
    return COP_OK;
}

static cop_status finish_oldest(cop_kv *kv, cop_nccl_transfer *t, cop_kv_done *done, cop_error *err)
{
    float ms;
    COP_CUDA_TRY(err, cudaEventElapsedTime(&ms, kv->begun[t->slot], kv->ended[t->slot]));
    *done = (cop_kv_done){.transfer = t->id,
                          .sent = t->outgoing,
                          .bytes = t->count * (uint64_t)kv->block_bytes,
                          .wait_ns = t->wait_ns,
                          .wire_ns = (int64_t)((double)ms * COP_NS_PER_MS)};
    kv->progress_ns = cop_clock_ns();
    kv->oldest = (kv->oldest + 1) % IN_FLIGHT;
    kv->flying_count--;
    free(t->blocks);
    free(t);
    return COP_OK;
}

static cop_status look_at_oldest(cop_kv *kv, cop_kv_done *done, bool *ended, cop_error *err)
{
    if (kv->flying_count == 0)
        return COP_OK;
    cop_nccl_transfer *t = kv->flying[kv->oldest];
    cop_status status = COP_OK;
    if (!t->begun && t->stage > COP_NCCL_HEADER)
        status = note_begun(kv, t, err);
    if (status != COP_OK || !t->begun || t->stage != COP_NCCL_LAUNCHED)
        return status;
    status = query(kv->ended[t->slot], ended, err);
    return status == COP_OK && *ended ? finish_oldest(kv, t, done, err) : status;
}

/* The peer of a throttled transfer sees nothing between its header and its blocks. */
static int64_t patience_ns(const cop_kv *kv)
{
    if (kv->flying_count == 0)
        return kv->timeout_ns;
    double bytes = (double)kv->flying[kv->oldest]->count * (double)kv->block_bytes;
    return kv->timeout_ns + kv->link.latency_ns + (int64_t)(bytes * kv->link.ns_per_byte);
}

static cop_status check_patience(const cop_kv *kv, cop_error *err)
{
    double waited_s = (double)(cop_clock_ns() - kv->progress_ns) / COP_NS_PER_S;
    if (nothing_posted(kv) || waited_s * COP_NS_PER_S < (double)patience_ns(kv))
        return COP_OK;
    if (kv->flying_count == 0)
        return cop_fail(err, COP_ERR_TRANSPORT,
                        "transfer %llu was announced %.1f s ago and not posted here; %zu behind it "
                        "wait (transport.timeout_s)",
                        (unsigned long long)kv->turns.items[0].id, waited_s, kv->turns.posted);
    return cop_fail(err, COP_ERR_TRANSPORT, "nothing moved for %.1f s (transport.timeout_s)",
                    waited_s);
}

/* Which transfer an error met, and whose. */
static void name_oldest(const cop_kv *kv, cop_error *err)
{
    const cop_nccl_transfer *t =
        kv->flying_count ? kv->flying[kv->oldest] : cop_turns_next(&kv->turns);
    if (!err || !t)
        return;
    cop_fail_prefix(err, "transfer %llu %s rank %d, %u blocks", (unsigned long long)t->id,
                    t->outgoing ? "to" : "from", t->peer + kv->first_rank, t->count);
}

static cop_status kv_poll(cop_kv *kv, cop_kv_done *done, bool *ended, cop_error *err)
{
    *ended = false;
    if (nothing_posted(kv))
        return COP_OK;
    COP_CHECK(kv->comm);
    cop_status status = launch_what_may(kv, err);
    if (status == COP_OK)
        status = look_at_oldest(kv, done, ended, err);
    if (status == COP_OK && !*ended)
        status = check_patience(kv, err);
    if (status != COP_OK) {
        name_oldest(kv, err);
        cop_nccl_give_up(kv);
    }
    return status;
}

static bool kv_idle(const cop_kv *kv)
{
    return nothing_posted(kv);
}

static const char *kv_note(const cop_kv *kv)
{
    return kv->note[0] ? kv->note : NULL;
}

const cop_kv_ops cop_cuda_kv = {
    .abi = COP_KV_ABI,
    .name = "nccl",
    .device_memory = true,
    .open = cop_nccl_open,
    .close = cop_nccl_close,
    .expect = kv_expect,
    .forget = kv_forget,
    .send = kv_send,
    .receive = kv_receive,
    .poll = kv_poll,
    .idle = kv_idle,
    .note = kv_note,
};
