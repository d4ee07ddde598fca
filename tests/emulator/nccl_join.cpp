/* How the ranks of the fake NCCL find each other.
 *
 * The unique id names a folder in which every rank r listens at the socket <folder>/<r>. A rank
 * connects to those below it and is connected to by those above it, twice: for data and for notes.
 * Each tells the other who it is:
 *
 *     listen --> connect, accept --> greetings of all --> verdicts of all --> joined
 *
 * Two ranks of one host on one GPU are refused, as the real library does since it can't run them;
 * it takes NCCL_HOSTID, where it is set, for the host. The verdict tells the others of it, so that
 * they don't wait. Then the socket's file is removed, and by the last rank the folder. */
#include "nccl_private.h"

#include <algorithm>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

using namespace fake_nccl;

namespace
{

enum : uint32_t { GREETING = 0x48656c6f };
enum : char { NONE_YET = 0, WELCOME = 'w', REFUSED = 'r' };

/* What two ranks tell each other first.
 *     offset  type      meaning
 *      0      u32       GREETING
 *      4      i32       rank
 *      8      i32       ranks of the communicator
 *     12      i32       0: the connection is for data, 1: for notes
 *     16      char[64]  host: NCCL_HOSTID or the host's name
 *     80      char[32]  PCI bus id of the device                                             */
struct greeting {
    uint32_t magic;
    int32_t rank, size, purpose;
    char host[64], bus_id[32];
};
static_assert(sizeof(greeting) == 112, "see the table above");

struct caller { /* a connection, and what has been heard from it */
    int fd;
    greeting heard;
    size_t bytes;
    char verdict;
};

} // namespace

struct fake_nccl::joining {
    std::string folder;
    int rank, size;
    greeting own;
    int listener = -1;
    std::vector<caller> callers; /* those below in order, then those above as they come */
    bool judged = false;
    std::string error;
};

static std::string path_of(const joining *j, int rank)
{
    return j->folder + "/" + std::to_string(rank);
}

void fake_nccl::join_deleter::operator()(joining *j) const
{
    for (const caller &c : j->callers)
        if (c.fd >= 0)
            close(c.fd);
    if (j->listener >= 0) {
        close(j->listener);
        unlink(path_of(j, j->rank).c_str());
    }
    rmdir(j->folder.c_str()); /* works for the last one */
    delete j;
}

joining_pointer fake_nccl::join_begin(const std::string &folder, int rank, int size,
                                      const char *bus_id)
{
    joining_pointer j(new joining());
    j->folder = folder;
    j->rank = rank;
    j->size = size;
    j->own.magic = GREETING;
    j->own.rank = rank;
    j->own.size = size;
    const char *host = getenv("NCCL_HOSTID");
    if (host && *host)
        strncpy(j->own.host, host, sizeof j->own.host - 1);
    else
        gethostname(j->own.host, sizeof j->own.host - 1);
    strncpy(j->own.bus_id, bus_id, sizeof j->own.bus_id - 1);
    return j;
}

/* ---- connecting ------------------------------------------------------------------------- */

static ncclResult_t fail(joining *j, ncclResult_t result, const std::string &text)
{
    j->error = text;
    return result;
}

static bool address_of(const joining *j, int rank, sockaddr_un *address)
{
    const std::string path = path_of(j, rank);
    *address = {};
    address->sun_family = AF_UNIX;
    if (path.size() >= sizeof address->sun_path)
        return false;
    strcpy(address->sun_path, path.c_str());
    return true;
}

static int new_socket()
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static ncclResult_t listen_at_own(joining *j)
{
    sockaddr_un address;
    if (!address_of(j, j->rank, &address))
        return fail(j, ncclSystemError, "the path of a socket is too long: set a shorter TMPDIR");
    if (mkdir(j->folder.c_str(), 0700) != 0 && errno != EEXIST)
        return fail(j, ncclSystemError, j->folder + ": " + strerror(errno));
    const int fd = new_socket();
    if (fd < 0)
        return fail(j, ncclSystemError, std::string("socket: ") + strerror(errno));
    if (bind(fd, (const sockaddr *)&address, sizeof address) != 0 || listen(fd, 2 * j->size) != 0) {
        const int error = errno;
        close(fd);
        return fail(j, error == EADDRINUSE ? ncclInvalidUsage : ncclSystemError,
                    path_of(j, j->rank) + ": " + strerror(error));
    }
    j->listener = fd;
    return ncclSuccess;
}

/* The greeting is the first thing on a connection, so there is room for it. */
static bool greet(const joining *j, int fd, int purpose)
{
    greeting own = j->own;
    own.purpose = purpose;
    return send(fd, &own, sizeof own, MSG_NOSIGNAL) == (ssize_t)sizeof own;
}

/* Who connected said what for; this rank made two connections to each one below it. */
static int purpose_of(const joining *j, size_t caller)
{
    return caller < 2 * (size_t)j->rank ? (int)(caller % 2) : j->callers[caller].heard.purpose;
}

/* True if the next rank below was reached, for data or for notes; it may not listen yet. */
static bool connect_to_next(joining *j)
{
    sockaddr_un address;
    const size_t next = j->callers.size();
    const int fd = new_socket();
    if (fd < 0 || !address_of(j, (int)(next / 2), &address))
        return false;
    if (connect(fd, (const sockaddr *)&address, sizeof address) != 0 ||
        !greet(j, fd, (int)(next % 2))) {
        close(fd);
        return false;
    }
    j->callers.push_back({fd, {}, 0, NONE_YET});
    return true;
}

static bool accept_one(joining *j)
{
    const int fd = accept4(j->listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    if (!greet(j, fd, 0)) {
        close(fd);
        return false;
    }
    j->callers.push_back({fd, {}, 0, NONE_YET});
    return true;
}

/* ---- greetings and verdicts ------------------------------------------------------------- */

/* ncclSuccess when all of `bytes` at `to` have been read. */
static ncclResult_t hear(joining *j, caller *c, void *to, size_t *have, size_t bytes)
{
    if (*have == bytes)
        return ncclSuccess;
    const ssize_t n = recv(c->fd, (char *)to + *have, bytes - *have, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        return fail(j, ncclRemoteError, "a rank went away while the communicator was made");
    *have += n > 0 ? (size_t)n : 0;
    return *have == bytes ? ncclSuccess : ncclInProgress;
}

static ncclResult_t judge(joining *j, const caller *c)
{
    const greeting *g = &c->heard;
    if (g->magic != GREETING || g->size != j->size || g->rank < 0 || g->rank >= j->size ||
        g->rank == j->rank)
        return fail(j, ncclInvalidUsage,
                    "rank " + std::to_string(g->rank) + " of " + std::to_string(g->size) +
                        " joined where rank " + std::to_string(j->rank) + " is one of " +
                        std::to_string(j->size));
    if (strcmp(g->host, j->own.host) == 0 && strcmp(g->bus_id, j->own.bus_id) == 0)
        return fail(j, ncclInvalidUsage,
                    "Duplicate GPU detected : rank " + std::to_string(j->rank) + " and rank " +
                        std::to_string(g->rank) + " both on CUDA device " + g->bus_id);
    return ncclSuccess;
}

/* Hears all greetings, and says what it thinks of them. */
static ncclResult_t greetings(joining *j)
{
    for (caller &c : j->callers) {
        const ncclResult_t result = hear(j, &c, &c.heard, &c.bytes, sizeof c.heard);
        if (result != ncclSuccess)
            return result;
    }
    if (j->judged)
        return ncclSuccess;
    ncclResult_t result = ncclSuccess;
    for (size_t i = 0; i < j->callers.size() && result == ncclSuccess; i++)
        result = judge(j, &j->callers[i]);
    const char verdict = result == ncclSuccess ? WELCOME : REFUSED;
    for (const caller &c : j->callers)
        (void)!send(c.fd, &verdict, 1, MSG_NOSIGNAL);
    j->judged = true;
    return result;
}

static ncclResult_t verdicts(joining *j)
{
    for (caller &c : j->callers) {
        size_t have = c.verdict != NONE_YET;
        const ncclResult_t result = hear(j, &c, &c.verdict, &have, 1);
        if (result != ncclSuccess)
            return result;
        if (c.verdict == REFUSED)
            return fail(j, ncclRemoteError,
                        "rank " + std::to_string(c.heard.rank) + " refused to join");
    }
    return ncclSuccess;
}

ncclResult_t fake_nccl::join_step(joining *j, std::vector<wire> *links, std::string *error)
{
    ncclResult_t result = j->listener < 0 ? listen_at_own(j) : ncclSuccess;
    const size_t below = 2 * (size_t)j->rank, all = 2 * ((size_t)j->size - 1);
    while (result == ncclSuccess && j->callers.size() < below && connect_to_next(j))
        ;
    while (result == ncclSuccess && j->callers.size() >= below && j->callers.size() < all &&
           accept_one(j))
        ;
    if (result == ncclSuccess)
        result = j->callers.size() < all ? ncclInProgress : greetings(j);
    if (result == ncclSuccess)
        result = verdicts(j);
    if (result != ncclSuccess) {
        *error = j->error;
        return result;
    }
    links->assign((size_t)j->size, wire());
    for (int i = 0; i < j->size; i++) {
        links->at((size_t)i).self = j->rank;
        links->at((size_t)i).peer = i;
    }
    for (size_t i = 0; i < j->callers.size(); i++) {
        wire *w = &links->at((size_t)j->callers[i].heard.rank);
        (purpose_of(j, i) == 0 ? w->data : w->notes) = j->callers[i].fd;
        j->callers[i].fd = -1; /* the wire owns it now */
    }
    return ncclSuccess;
}
