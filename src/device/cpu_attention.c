/* Causal attention over paged KV, grouped queries, with an online softmax.
 *
 * A task is one kv head of some consecutive tokens of one sequence. Its rows are (token, query head
 * of the group). Keys come in tiles of 64, aligned to absolute positions: a tile is packed once
 * (keys transposed, values interleaved) and used by all rows. A row visits the same tiles in the
 * same order with the same arithmetic in every batch; a tile wholly behind a row would leave its
 * state as it is (factor 1, probabilities 0), so it is left out. */
#include "device/cpu.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct {
    cop_device *d;
    uint32_t layer;
} attention;

typedef struct {
    const cop_device *d;
    const cop_sequence *sequence;
    uint32_t kv_head, layer;
    uint32_t position;     /* of the first token */
    uint32_t tokens, rows; /* rows = tokens * group */
    const char *q;         /* act [rows][head_dim] */
    char *out;             /* act [tokens][q_size], at this kv head's first query head */
    cop_scratch *scratch;
} task;

static const char zeros[128 * 4]; /* stands in for keys past the end of the sequence */

/* Where the keys and values of a tile lie: 64 tokens from `key` on, `count` of which exist. */
typedef struct {
    const void *k[COP_PANEL], *v[COP_PANEL];
} tile_rows;

static void locate(const task *t, uint32_t key, uint32_t count, tile_rows *rows)
{
    const cop_device *d = t->d;
    const size_t token_bytes = d->g.head_dim * d->kernels->panel_bytes;
    const uint32_t block_tokens = d->options.block_tokens;
    size_t stripe = (size_t)(2 * t->layer * d->g.kv_heads + t->kv_head) * d->stripe_bytes;
    uint32_t block = key / block_tokens, token = key % block_tokens;
    for (uint32_t i = 0; i < COP_PANEL; i++) {
        if (i >= count) {
            rows->k[i] = rows->v[i] = zeros;
            continue;
        }
        const char *k = d->kv + t->sequence->blocks[block] * d->block_bytes + stripe;
        rows->k[i] = k + token * token_bytes;
        rows->v[i] = k + d->g.kv_heads * d->stripe_bytes + token * token_bytes;
        if (++token == block_tokens) {
            token = 0;
            block++;
        }
    }
}

/* Blocks lie apart, so the machine does not see the next tile coming. */
static void prefetch(const task *t, const tile_rows *rows)
{
    const size_t token_bytes = t->d->g.head_dim * t->d->kernels->panel_bytes;
    for (uint32_t i = 0; i < COP_PANEL; i++)
        for (size_t at = 0; at < token_bytes; at += 64) {
            __builtin_prefetch((const char *)rows->k[i] + at);
            __builtin_prefetch((const char *)rows->v[i] + at);
        }
}

static void pack(const task *t, const tile_rows *rows)
{
    const cop_device *d = t->d;
    size_t panel_bytes = (size_t)COP_PANEL * COP_PANEL * d->kernels->panel_bytes;
    d->kernels->transpose(rows->k, d->g.head_dim * d->kernels->panel_bytes / 4,
                          (uint32_t *)t->scratch->keys);
    for (uint32_t column = 0; column < d->g.head_dim; column += COP_PANEL)
        d->kernels->pack_values(rows->v, column,
                                t->scratch->values + column / COP_PANEL * panel_bytes);
}

/* One tile of keys for rows [first, first + rows): scores, softmax, weighted values. */
static void attend_rows(const task *t, uint32_t key, uint32_t first, uint32_t rows)
{
    const cop_kernels *kernels = t->d->kernels;
    const uint32_t dim = t->d->g.head_dim, group = t->d->group;
    const float scale = 1.44269504f / sqrtf((float)dim); /* powers of 2, not of e */
    float scores[COP_TILE_ROWS * COP_PANEL];
    float probabilities[COP_TILE_ROWS * COP_PANEL]; /* act */
    float *out = t->scratch->attention + (size_t)first * dim;
    cop_tile qk = {.a = t->q + (size_t)first * dim * kernels->act_bytes,
                   .lda = dim,
                   .panel = t->scratch->keys,
                   .k = dim,
                   .c = scores,
                   .ldc = COP_PANEL};
    kernels->tile(&qk, rows);
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t valid = t->position + (first + r) / group - key + 1;
        float factor = kernels->softmax(&t->scratch->softmax[first + r], scores + r * COP_PANEL,
                                        valid < COP_PANEL ? valid : COP_PANEL, scale);
        if (key > 0 && factor != 1) /* a new maximum is rare after some tiles */
            kernels->scale(out + r * dim, factor, dim);
        kernels->store_act(scores + r * COP_PANEL,
                           (char *)probabilities + r * COP_PANEL * kernels->act_bytes, COP_PANEL);
    }
    size_t panel_bytes = (size_t)COP_PANEL * COP_PANEL * kernels->panel_bytes;
    for (uint32_t column = 0; column < dim; column += COP_PANEL) {
        cop_tile pv = {.a = probabilities,
                       .lda = COP_PANEL,
                       .panel = t->scratch->values + column / COP_PANEL * panel_bytes,
                       .k = COP_PANEL,
                       .c = out + column,
                       .ldc = dim,
                       .accumulate = key > 0};
        kernels->tile(&pv, rows);
    }
}

static void finish_rows(const task *t)
{
    const cop_kernels *kernels = t->d->kernels;
    const uint32_t dim = t->d->g.head_dim, group = t->d->group;
    for (uint32_t r = 0; r < t->rows; r++) {
        const float *sum = t->scratch->softmax[r].sum;
        float *row = t->scratch->attention + (size_t)r * dim, total = 0;
        for (int i = 0; i < COP_SOFTMAX_LANES; i++)
            total += sum[i];
        kernels->scale(row, 1.0f / total, dim);
        size_t element = (size_t)(r / group) * t->d->q_size + (r % group) * dim;
        kernels->store_act(row, t->out + element * kernels->act_bytes, dim);
    }
}

/* Rows of a tile need not share a token; a tile is skipped only when it is behind all of them. */
static void attend(const task *t)
{
    const uint32_t group = t->d->group, end = t->position + t->tokens;
    for (uint32_t r = 0; r < t->rows; r++)
        t->scratch->softmax[r] = (cop_softmax){.max = -FLT_MAX};
    tile_rows rows;
    locate(t, 0, end < COP_PANEL ? end : COP_PANEL, &rows);
    for (uint32_t key = 0; key < end; key += COP_PANEL) {
        pack(t, &rows);
        uint32_t next = key + COP_PANEL;
        if (next < end) {
            locate(t, next, end - next < COP_PANEL ? end - next : COP_PANEL, &rows);
            prefetch(t, &rows);
        }
        uint32_t first = key > t->position ? (key - t->position) * group : 0;
        for (uint32_t n; first < t->rows; first += n) {
            n = cop_tile_rows(t->rows - first);
            attend_rows(t, key, first, n);
        }
    }
    finish_rows(t);
}

static void attention_task(void *ctx, uint32_t index, uint32_t thread)
{
    const attention *self = ctx;
    cop_device *d = self->d;
    const cop_attention_item *item = &d->item[index];
    const cop_sequence *sequence = &d->batch.sequences[item->sequence];
    const size_t row = d->first_row[item->sequence] + item->first;
    const size_t dim = d->g.head_dim, act = d->kernels->act_bytes;
    task t = {
        .d = d,
        .sequence = sequence,
        .kv_head = item->kv_head,
        .layer = self->layer,
        .position = sequence->start + item->first,
        .tokens = item->count,
        .rows = item->count * d->group,
        .q = d->q + ((size_t)item->kv_head * d->max_rows + row) * d->group * dim * act,
        .out = d->mixed + (row * d->q_size + item->kv_head * d->group * dim) * act,
        .scratch = &d->scratch[thread],
    };
    attend(&t);
}

void cop_cpu_attention(cop_device *d, uint32_t layer)
{
    attention self = {d, layer};
    cop_pool_for(d->pool, d->items, attention_task, &self);
}
