/* What the parts of the fake NCCL share.
 *
 *     nccl.cpp        communicators: made, asked, ended
 *     nccl_group.cpp  groups, sends and receives
 *     nccl_join.cpp   how the ranks of a communicator find each other
 *     nccl_wire.cpp   the wire between two of them
 *
 * Ranks are processes or threads of one machine, two Unix domain sockets join each pair. Nothing
 * here blocks but ncclCommInitRank, ncclCommFinalize and ncclCommDestroy of a blocking
 * communicator, as in the real library; bytes move when the emulator runs the stream's operations.
 *
 * Locks: the emulator's own is taken before a communicator's, so no function calls the emulator
 * while it holds one. */
#ifndef COP_NCCL_PRIVATE_H
#define COP_NCCL_PRIVATE_H

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <nccl.h>
#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

namespace fake_nccl
{

/* ---- the wire --------------------------------------------------------------------------- */

/* A message on a wire's data socket: a header, then its bytes.
 *     offset  type  meaning
 *      0      u32   MESSAGE
 *      4      u32   number of the message in this direction, from 0
 *      8      u64   bytes
 * On its control socket, where there is always room:
 *     offset  type  meaning
 *      0      u32   RECEIVED, or GOODBYE (the last one)
 *      4      u32   number of the message that was received                                    */
struct wire_header {
    uint32_t kind, number;
    uint64_t bytes;
};
static_assert(sizeof(wire_header) == 16, "see the table above");
struct wire_note {
    uint32_t kind, number;
};
static_assert(sizeof(wire_note) == 8, "see the table above");

/* One end of a transfer: a send or a receive that waits for its turn or is under way. */
struct transfer_end {
    char *data; /* borrowed until *open drops */
    size_t bytes, moved;
    bool stalls;                  /* a send that never begins: COP_EMULATOR_NCCL_STALL */
    std::shared_ptr<size_t> open; /* how many of its group aren't done: one less when this is */
};

enum class peer_state { HERE, LEFT /* said goodbye */, LOST /* closed without a word */ };

/* One of a communicator's peers. Sends and receives match in the order in which they are posted. A
 * send is done when it was received: what the real library buffers it need not, so no caller may
 * count on it. */
struct wire {
    int self = -1, peer = -1;  /* ranks, for texts */
    int data = -1, notes = -1; /* sockets, owned; -1 on the wire of a rank to itself */
    peer_state state = peer_state::HERE;
    std::deque<transfer_end> sends, receives;
    std::deque<std::shared_ptr<size_t>> unreceived; /* sends that are out */
    uint32_t sent = 0, received = 0, confirmed = 0; /* messages: the number of the next */
    wire_header out{}, in{};
    size_t out_moved = 0, in_moved = 0; /* bytes of the header */
};

/* Does what can be done without blocking. */
void wire_progress(wire *w);

/* Reads the peer's notes: what it received, that it leaves; or that it is lost. */
void wire_listen(wire *w);

void wire_goodbye(wire *w);
void wire_close(wire *w);

/* ---- joining ---------------------------------------------------------------------------- */

struct joining;

struct join_deleter {
    void operator()(joining *j) const;
};
using joining_pointer = std::unique_ptr<joining, join_deleter>;

/* folder: made by the first rank, removed by the last. bus_id: of the rank's device. */
joining_pointer join_begin(const std::string &folder, int rank, int size, const char *bus_id);

/* ncclInProgress until every rank is there; then ncclSuccess with links->at(peer) connected, or an
 * error, its text in *error. Never blocks. */
ncclResult_t join_step(joining *j, std::vector<wire> *links, std::string *error);

/* ---- communicators ---------------------------------------------------------------------- */

struct communicator {
    std::mutex lock;
    int rank = 0, size = 0, device = 0;
    bool blocking = true;
    ncclResult_t state = ncclInProgress; /* of making it, then of what was last queued */
    ncclResult_t failure = ncclSuccess;  /* the first; stays */
    bool aborted = false, destroyed = false, finalizing = false, finalized = false;
    std::string text;                            /* of the failure */
    joining_pointer join;                        /* until it is joined */
    std::vector<wire> links;                     /* [size], by peer */
    std::vector<std::function<void()>> unqueued; /* of a non-blocking one: see nccl.cpp */
    uint64_t tickets = 0, turn = 0;              /* groups run in the order of their tickets */
    uint64_t groups = 0;                         /* queued and not done */
    uint64_t sends = 0, stalled = 0;             /* begun; which of them stalls, 0: none */
};
using shared = std::shared_ptr<communicator>;

/* Empty if it is none, or none any more. */
shared find(ncclComm_t comm);

/* Under the lock: whether it takes another call; it does not before the last one has ended. */
ncclResult_t ready(const communicator *c);

/* How many groups of this thread are open. */
int group_depth();

/* Keeps the text for ncclGetLastError, and says it on stderr; returns the result. */
ncclResult_t refuse(ncclResult_t result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

} // namespace fake_nccl

#endif
