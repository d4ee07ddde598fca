/* Copies of blocks, within the pool and to and from host memory, and what waits for what.
 *
 *     queued            on        after                      because
 *     step              compute   moves out                  it may write the blocks they free
 *     copy_block        compute   moves out                  likewise
 *     move out, read    moves     copy_block                 it may read the copy
 *     move in, write    moves     copy_block                 it may write what is still copied from
 *     transport writes  theirs    copy_block, moves          cop_cuda_fence: likewise, and what is
 *                                                            still moved from
 *
 * All else is in order because it is on one stream (moves after moves; steps after copies and steps
 * before them), or because the caller has been told of the end of what it builds on: blocks are
 * moved and sent after poll has reported the step that wrote them, and used by a step after `moved`
 * or the transport has reported them. */
#include "base/check.h"
#include "cuda/cuda_device.h"

#include <string.h>

void *cop_cuda_block(const cop_device *d, uint32_t block)
{
    COP_CHECK(block < d->blocks);
    return (char *)d->pool + block * d->block_bytes;
}

void *cop_cuda_host_slot(cop_device *d, uint32_t slot)
{
    COP_CHECK(slot < d->options.host_slots);
    return d->host + slot * d->block_bytes;
}

cop_status cop_cuda_moves_open(cop_device *d, cop_error *err)
{
    const unsigned flags = cudaEventDisableTiming;
    COP_CUDA_TRY(err, cudaEventCreateWithFlags(&d->copied, flags));
    for (int i = 0; i < COP_MOVES; i++)
        COP_CUDA_TRY(err, cudaEventCreateWithFlags(&d->moved[i], flags));
    return COP_OK;
}

void cop_cuda_moves_close(cop_device *d)
{
    if (d->copied)
        cudaEventDestroy(d->copied);
    for (int i = 0; i < COP_MOVES && d->moved[i]; i++)
        cudaEventDestroy(d->moved[i]);
}

cop_status cop_cuda_wait_for_moves_out(cop_device *d, cop_error *err)
{
    if (d->waited_out == d->last_out)
        return COP_OK;
    d->waited_out = d->last_out;
    COP_CUDA_TRY(err, cudaStreamWaitEvent(d->compute, d->moved[d->last_out % COP_MOVES], 0));
    return COP_OK;
}

static cop_status wait_for_copies(cop_device *d, cudaStream_t stream, cop_error *err)
{
    if (d->any_copied)
        COP_CUDA_TRY(err, cudaStreamWaitEvent(stream, d->copied, 0));
    return COP_OK;
}

cop_status cop_cuda_fence(cop_device *d, cudaStream_t stream, cop_error *err)
{
    cop_status status = cop_cuda_enter(d, err);
    if (status == COP_OK)
        status = wait_for_copies(d, stream, err);
    if (status == COP_OK && d->tickets > d->tickets_done)
        COP_CUDA_TRY(err, cudaStreamWaitEvent(stream, d->moved[d->tickets % COP_MOVES], 0));
    return status;
}

static cop_status copy(cop_device *d, uint32_t src, uint32_t dst, uint32_t tokens, cop_error *err)
{
    cop_status status = cop_cuda_enter(d, err);
    if (status == COP_OK)
        status = cop_cuda_wait_for_moves_out(d, err);
    if (status != COP_OK)
        return status;
    COP_CUDA_TRY(err, cop_cuda_copy_block(&d->shape, src, dst, tokens, d->compute));
    COP_CUDA_TRY(err, cudaEventRecord(d->copied, d->compute));
    d->any_copied = true;
    return COP_OK;
}

void cop_cuda_copy(cop_device *d, uint32_t src, uint32_t dst, uint32_t tokens)
{
    COP_CHECK(!d->in_flight && src < d->blocks && dst < d->blocks &&
              tokens <= d->options.block_tokens);
    cop_error err;
    if (src != dst && tokens > 0 && copy(d, src, dst, tokens, &err) != COP_OK)
        cop_cuda_remember(d, &err);
}

/* The caller's memory is not pinned: a copy from or to it could wait for all that is on the GPU, a
 * receive for a peer among it. */
static cop_status transfer(cop_device *d, void *to, const void *from, enum cudaMemcpyKind kind,
                           cop_error *err)
{
    cop_status status = cop_cuda_enter(d, err);
    if (status == COP_OK)
        status = wait_for_copies(d, d->moves, err);
    if (status != COP_OK)
        return status;
    COP_CUDA_TRY(err, cudaMemcpyAsync(to, from, d->block_bytes, kind, d->moves));
    COP_CUDA_TRY(err, cudaStreamSynchronize(d->moves));
    return COP_OK;
}

cop_status cop_cuda_read(cop_device *d, uint32_t block, void *host, cop_error *err)
{
    cop_status status =
        transfer(d, d->block, cop_cuda_block(d, block), cudaMemcpyDeviceToHost, err);
    if (status == COP_OK)
        memcpy(host, d->block, d->block_bytes);
    return status;
}

cop_status cop_cuda_write(cop_device *d, uint32_t block, const void *host, cop_error *err)
{
    memcpy(d->block, host, d->block_bytes);
    return transfer(d, cop_cuda_block(d, block), d->block, cudaMemcpyHostToDevice, err);
}

static cop_status move(cop_device *d, bool out, const uint32_t *blocks, const uint32_t *slots,
                       uint32_t count, cop_error *err)
{
    cop_status status = cop_cuda_enter(d, err);
    if (status == COP_OK)
        status = wait_for_copies(d, d->moves, err);
    if (status != COP_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        void *block = cop_cuda_block(d, blocks[i]), *slot = cop_cuda_host_slot(d, slots[i]);
        COP_CUDA_TRY(err, cudaMemcpyAsync(out ? slot : block, out ? block : slot, d->block_bytes,
                                          out ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice,
                                          d->moves));
    }
    COP_CUDA_TRY(err, cudaEventRecord(d->moved[d->tickets % COP_MOVES], d->moves));
    return COP_OK;
}

/* A ticket whose event has still to happen keeps its place: a caller that asks for more than there
 * are places without ever seeing one done waits here. */
static uint64_t take_ticket(cop_device *d)
{
    d->tickets++;
    if (d->tickets - d->tickets_done > COP_MOVES) {
        cudaEventSynchronize(d->moved[d->tickets % COP_MOVES]);
        d->tickets_done = d->tickets - COP_MOVES;
    }
    return d->tickets;
}

uint64_t cop_cuda_move_out(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                           uint32_t count)
{
    cop_error err;
    uint64_t ticket = take_ticket(d);
    if (move(d, true, blocks, slots, count, &err) != COP_OK)
        cop_cuda_remember(d, &err);
    else
        d->last_out = ticket;
    return ticket;
}

uint64_t cop_cuda_move_in(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                          uint32_t count)
{
    cop_error err;
    uint64_t ticket = take_ticket(d);
    if (move(d, false, blocks, slots, count, &err) != COP_OK)
        cop_cuda_remember(d, &err);
    return ticket;
}

/* After a failure everything counts as moved: nobody waits for ever, and the next call that can
 * tells of it, before what was moved is used. */
bool cop_cuda_moved(cop_device *d, uint64_t ticket)
{
    COP_CHECK(ticket <= d->tickets);
    while (d->tickets_done < ticket && d->failure.status == COP_OK) {
        cudaError_t state = cudaEventQuery(d->moved[(d->tickets_done + 1) % COP_MOVES]);
        if (state == cudaErrorNotReady)
            return false;
        if (state != cudaSuccess) {
            cop_error err;
            cop_cuda_fail(&err, state, "cudaEventQuery", __FILE__, __LINE__);
            cop_cuda_remember(d, &err);
        }
        d->tickets_done++;
    }
    return true;
}
