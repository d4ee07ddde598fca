/* The wire between two ranks of the fake NCCL. See nccl_private.h. */
#include "emulator.h"
#include "nccl_private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace fake_nccl;

enum : uint32_t { MESSAGE = 0x6e63636c, RECEIVED = 0x676f7469, GOODBYE = 0x62796521 };

/* ---- sockets ---------------------------------------------------------------------------- */

/* Bytes that were moved; 0 if none could be. That a peer is lost is for wire_listen to find. */
static size_t write_some(int socket, void *bytes, size_t count)
{
    const ssize_t moved = send(socket, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    return moved > 0 ? (size_t)moved : 0;
}

static size_t read_some(int socket, void *bytes, size_t count)
{
    const ssize_t moved = recv(socket, bytes, count, MSG_DONTWAIT);
    return moved > 0 ? (size_t)moved : 0;
}

/* Moves the rest of the first of a queue; true if it is through. */
static bool move(size_t (*some)(int, void *, size_t), int socket, transfer_end *first)
{
    while (first->moved < first->bytes) {
        const size_t moved = some(socket, first->data + first->moved, first->bytes - first->moved);
        if (moved == 0)
            return false;
        first->moved += moved;
    }
    return true;
}

/* A note goes out whole or not at all. To a peer that is gone it counts as sent. */
static bool send_note(wire *w, uint32_t kind, uint32_t number)
{
    const wire_note note = {kind, number};
    return send(w->notes, &note, sizeof note, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
           (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* ---- sends ------------------------------------------------------------------------------ */

/* True if the first send is out, and another may follow. */
static bool progress_send(wire *w)
{
    transfer_end *first = &w->sends.front();
    if (first->stalls)
        return false;
    if (w->out_moved == 0)
        w->out = {MESSAGE, w->sent, first->bytes};
    if (w->out_moved < sizeof w->out)
        w->out_moved +=
            write_some(w->data, (char *)&w->out + w->out_moved, sizeof w->out - w->out_moved);
    if (w->out_moved < sizeof w->out || !move(write_some, w->data, first))
        return false;
    w->out_moved = 0;
    w->sent++;
    w->unreceived.push_back(first->open);
    w->sends.pop_front();
    return true;
}

void fake_nccl::wire_listen(wire *w)
{
    wire_note note;
    while (w->notes >= 0 && w->state == peer_state::HERE) {
        const ssize_t n = recv(w->notes, &note, sizeof note, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (n != (ssize_t)sizeof note)
            w->state = peer_state::LOST;
        else if (note.kind == GOODBYE)
            w->state = peer_state::LEFT;
        else if (note.kind != RECEIVED || note.number != w->confirmed || w->unreceived.empty())
            emulator_abort("NCCL: rank %d hears from rank %d that it received message %u, not %u",
                           w->self, w->peer, note.number, w->confirmed);
        else {
            w->confirmed++;
            --*w->unreceived.front();
            w->unreceived.pop_front();
        }
    }
}

/* ---- receives --------------------------------------------------------------------------- */

static void check_match(const wire *w, const transfer_end *posted, uint64_t bytes, uint32_t number)
{
    if (posted->bytes != bytes)
        emulator_abort("NCCL: message %u from rank %d to rank %d has %lu bytes where it was sent, "
                       "%zu where it is received",
                       number, w->peer, w->self, bytes, posted->bytes);
}

/* True if the header of the first receive's message is there. */
static bool read_header(wire *w)
{
    if (w->in_moved == sizeof w->in)
        return true;
    w->in_moved += read_some(w->data, (char *)&w->in + w->in_moved, sizeof w->in - w->in_moved);
    if (w->in_moved < sizeof w->in)
        return false;
    if (w->in.kind != MESSAGE || w->in.number != w->received)
        emulator_abort("NCCL: rank %d reads message %u of rank %d as number %u", w->self,
                       w->in.number, w->peer, w->received);
    check_match(w, &w->receives.front(), w->in.bytes, w->received);
    return true;
}

static bool progress_receive(wire *w)
{
    transfer_end *first = &w->receives.front();
    if (!read_header(w) || !move(read_some, w->data, first) || !send_note(w, RECEIVED, w->received))
        return false;
    w->in_moved = 0;
    w->received++;
    --*first->open;
    w->receives.pop_front();
    return true;
}

/* A rank's sends to itself. */
static bool progress_loop(wire *w)
{
    if (w->sends.empty() || w->receives.empty() || w->sends.front().stalls)
        return false;
    const transfer_end from = w->sends.front(), to = w->receives.front();
    check_match(w, &to, from.bytes, w->received++);
    if (from.bytes)
        memcpy(to.data, from.data, from.bytes);
    --*from.open;
    --*to.open;
    w->sends.pop_front();
    w->receives.pop_front();
    return true;
}

void fake_nccl::wire_progress(wire *w)
{
    if (w->data < 0) {
        while (progress_loop(w))
            ;
        return;
    }
    wire_listen(w);
    while (!w->sends.empty() && progress_send(w))
        ;
    while (!w->receives.empty() && progress_receive(w))
        ;
}

/* ---- the end ---------------------------------------------------------------------------- */

void fake_nccl::wire_goodbye(wire *w)
{
    if (w->notes >= 0)
        send_note(w, GOODBYE, 0);
}

void fake_nccl::wire_close(wire *w)
{
    for (int *socket : {&w->data, &w->notes}) {
        if (*socket >= 0)
            close(*socket);
        *socket = -1;
    }
    w->sends.clear();
    w->receives.clear();
    w->unreceived.clear();
}
