#include "drive/mover.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/turns.h"

#include <stdlib.h>
#include <string.h>

/* A staged transfer. */
typedef struct {
    uint64_t id;
    int peer;
    bool outgoing;
    uint32_t *blocks; /* u32[count] */
    uint32_t count;
    uint32_t begun, ended; /* blocks of parts that were begun, that have ended */
    cop_kv_done sum;
    int64_t first_byte_ns;
} move;

typedef enum { FREE, MOVING_OUT, ON_WIRE, MOVING_IN } stage;

/* A half of the window, and the part that is in it. */
typedef struct {
    stage stage;
    move *move; /* borrowed */
    uint64_t wire_id, ticket;
    uint32_t from, count; /* blocks of the move */
} half;

struct cop_mover {
    cop_mover_options o;
    bool staged;
    uint32_t part_blocks; /* of a part, and slots of a half */
    uint32_t *slots;      /* u32[2 * part_blocks] */
    cop_turns turns;
    move *current; /* some of its parts are not begun yet */
    half halves[2];
    uint32_t next_half;
    uint64_t base; /* ids of the callers come after it: of the transport they ascend */
    move **moves;  /* posted and not reported */
    size_t move_count, move_capacity;
};

cop_status cop_mover_slots(const cop_device_ops *device_ops, const cop_kv_ops *kv_ops,
                           uint32_t window, uint32_t *out, cop_error *err)
{
    if (device_ops->host_memory && kv_ops->device_memory)
        return cop_fail(err, COP_ERR_INVALID,
                        "transport.kv %s moves blocks between GPUs, and device.kind %s keeps them "
                        "in host memory: use device.kind cuda, or transport.kv mpi",
                        kv_ops->name, device_ops->name);
    *out = device_ops->host_memory || kv_ops->device_memory ? 0 : window;
    return COP_OK;
}

void cop_mover_open(cop_mover **out, const cop_mover_options *options)
{
    cop_mover *m = cop_calloc(1, sizeof *m);
    m->o = *options;
    m->staged = !options->device_ops->host_memory && !options->kv_ops->device_memory;
    if (m->staged) {
        m->part_blocks = options->slots / 2;
        COP_CHECK(m->part_blocks > 0);
        m->slots = cop_malloc(2 * (size_t)m->part_blocks * sizeof *m->slots);
        for (uint32_t i = 0; i < 2 * m->part_blocks; i++)
            m->slots[i] = options->first_slot + i;
    }
    *out = m;
}

static void free_move(move *t)
{
    free(t->blocks);
    free(t);
}

void cop_mover_close(cop_mover *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->move_count; i++)
        free_move(m->moves[i]);
    free(m->moves);
    free(m->slots);
    cop_turns_fini(&m->turns);
    free(m);
}

void cop_mover_begin_after(cop_mover *m, uint64_t last)
{
    COP_CHECK(cop_mover_idle(m));
    m->base += last;
}

/* The transport of a staged move is of host memory and matches by id: it needs no order. */
void cop_mover_expect(cop_mover *m, uint64_t transfer)
{
    transfer += m->base;
    if (m->staged)
        cop_turns_expect(&m->turns, transfer);
    else
        m->o.kv_ops->expect(m->o.kv, transfer);
}

void cop_mover_forget(cop_mover *m, uint64_t transfer)
{
    transfer += m->base;
    if (m->staged)
        cop_turns_forget(&m->turns, transfer);
    else
        m->o.kv_ops->forget(m->o.kv, transfer);
}

/* ---- post ------------------------------------------------------------------------------- */

static void hand_over(const cop_mover *m, bool outgoing, uint64_t id, int peer, void *const *memory,
                      uint32_t count)
{
    if (outgoing)
        m->o.kv_ops->send(m->o.kv, id, peer, memory, count);
    else
        m->o.kv_ops->receive(m->o.kv, id, peer, memory, count);
}

static void post(cop_mover *m, bool outgoing, uint64_t id, int peer, const uint32_t *blocks,
                 uint32_t count)
{
    COP_CHECK(count > 0);
    id += m->base;
    if (!m->staged) {
        void **memory = cop_malloc(count * sizeof *memory);
        for (uint32_t i = 0; i < count; i++)
            memory[i] = m->o.device_ops->block_address(m->o.device, blocks[i]);
        hand_over(m, outgoing, id, peer, memory, count);
        free(memory);
        return;
    }
    move *t = cop_calloc(1, sizeof *t);
    *t = (move){.id = id, .peer = peer, .outgoing = outgoing, .count = count};
    t->sum = (cop_kv_done){.transfer = id, .sent = outgoing};
    t->blocks = cop_malloc(count * sizeof *blocks);
    memcpy(t->blocks, blocks, count * sizeof *blocks);
    COP_GROW(m->moves, m->move_capacity, m->move_count + 1);
    m->moves[m->move_count++] = t;
    cop_turns_post(&m->turns, id, t);
}

void cop_mover_send(cop_mover *m, uint64_t transfer, int to, const uint32_t *blocks, uint32_t count)
{
    post(m, true, transfer, to, blocks, count);
}

void cop_mover_receive(cop_mover *m, uint64_t transfer, int from, const uint32_t *blocks,
                       uint32_t count)
{
    post(m, false, transfer, from, blocks, count);
}

/* ---- parts ------------------------------------------------------------------------------ */

static uint32_t *slots_of(const cop_mover *m, const half *h)
{
    return m->slots + (size_t)(h - m->halves) * m->part_blocks;
}

static void put_on_wire(cop_mover *m, half *h)
{
    void **memory = cop_malloc(h->count * sizeof *memory);
    for (uint32_t i = 0; i < h->count; i++)
        memory[i] = m->o.device_ops->host_slot(m->o.device, slots_of(m, h)[i]);
    h->stage = ON_WIRE;
    hand_over(m, h->move->outgoing, h->wire_id, h->move->peer, memory, h->count);
    free(memory);
}

/* Two parts of a transfer are under way at the most, and the third begins after the first has
 * ended: two ids for each transfer are enough to tell them apart. */
static void begin_part(cop_mover *m, half *h)
{
    move *t = m->current;
    uint32_t left = t->count - t->begun, part = t->begun / m->part_blocks;
    *h = (half){.move = t, .from = t->begun, .wire_id = 2 * t->id + part % 2};
    h->count = left < m->part_blocks ? left : m->part_blocks;
    t->begun += h->count;
    if (t->begun == t->count)
        m->current = NULL;
    m->next_half = 1 - m->next_half;
    if (!t->outgoing) {
        put_on_wire(m, h);
        return;
    }
    h->stage = MOVING_OUT;
    h->ticket =
        m->o.device_ops->move_out(m->o.device, t->blocks + h->from, slots_of(m, h), h->count);
}

static void begin_parts(cop_mover *m)
{
    while (m->halves[m->next_half].stage == FREE) {
        if (!m->current) {
            m->current = cop_turns_next(&m->turns);
            if (!m->current)
                return;
            cop_turns_take(&m->turns);
        }
        begin_part(m, &m->halves[m->next_half]);
    }
}

static void note_wire(half *h, const cop_kv_done *done)
{
    move *t = h->move;
    if (h->from == 0) {
        t->first_byte_ns = cop_clock_ns() - done->wire_ns;
        t->sum.wait_ns = done->wait_ns;
    }
    t->sum.bytes += done->bytes;
}

static void end_part(half *h)
{
    h->stage = FREE;
    h->move->ended += h->count;
    if (h->move->ended == h->move->count)
        h->move->sum.wire_ns = cop_clock_ns() - h->move->first_byte_ns;
}

static void left_wire(cop_mover *m, const cop_kv_done *done)
{
    half *h = m->halves;
    while (h < m->halves + 2 &&
           (h->stage != ON_WIRE || h->wire_id != done->transfer || h->move->outgoing != done->sent))
        h++;
    COP_CHECK(h < m->halves + 2);
    note_wire(h, done);
    if (h->move->outgoing) {
        end_part(h);
        return;
    }
    h->stage = MOVING_IN;
    h->ticket =
        m->o.device_ops->move_in(m->o.device, h->move->blocks + h->from, slots_of(m, h), h->count);
}

static void follow_copies(cop_mover *m)
{
    for (half *h = m->halves; h < m->halves + 2; h++) {
        if ((h->stage != MOVING_OUT && h->stage != MOVING_IN) ||
            !m->o.device_ops->moved(m->o.device, h->ticket))
            continue;
        if (h->stage == MOVING_OUT)
            put_on_wire(m, h);
        else
            end_part(h);
    }
}

static bool report(cop_mover *m, cop_kv_done *done)
{
    for (size_t i = 0; i < m->move_count; i++) {
        move *t = m->moves[i];
        if (t->ended < t->count)
            continue;
        *done = t->sum;
        free_move(t);
        m->moves[i] = m->moves[--m->move_count];
        return true;
    }
    return false;
}

static cop_status poll(cop_mover *m, cop_kv_done *done, bool *ended, cop_error *err)
{
    if (!m->staged)
        return m->o.kv_ops->poll(m->o.kv, done, ended, err);
    cop_status status = COP_OK;
    bool arrived = true;
    while (status == COP_OK && arrived) {
        cop_kv_done part;
        begin_parts(m);
        follow_copies(m);
        status = m->o.kv_ops->poll(m->o.kv, &part, &arrived, err);
        if (status == COP_OK && arrived)
            left_wire(m, &part);
    }
    *ended = status == COP_OK && report(m, done);
    return status;
}

cop_status cop_mover_poll(cop_mover *m, cop_kv_done *done, bool *ended, cop_error *err)
{
    cop_status status = poll(m, done, ended, err);
    if (status == COP_OK && *ended)
        done->transfer -= m->base;
    return status;
}

bool cop_mover_idle(const cop_mover *m)
{
    return m->move_count == 0 && m->o.kv_ops->idle(m->o.kv);
}
