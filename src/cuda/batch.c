/* A batch as the kernels see it: one buffer in pinned memory, filled here and copied whole. Poll
 * has reported the batch before, so its copy is done and the buffer is free.
 *
 *     counts | draws | sequences | tiles | tokens | positions | slots | block tables
 *
 * Each part begins at a multiple of 16 bytes and has room for the sizes that are launched. These
 * are equal for all batches that one graph serves, and so are the addresses: what varies, the block
 * tables, comes last.
 *
 * Sequences that decode come first, so that decode attention finds them side by side; draws are in
 * the order of the caller's batch. */
#include "cuda/cuda_device.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    cop_device *d;
    const cop_batch *from;
    cop_step_size size;
    size_t used; /* bytes of the buffer */
    /* in the pinned buffer */
    uint32_t *counts, *token, *position, *slot, *blocks;
    cop_cuda_sequence *sequence;
    cop_cuda_draw *draw;
    cop_cuda_tile *tiles;
    uint32_t rows, sequences, tables, tile_count; /* filled so far */
} layout;

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* By decode attention; its bits depend on how a context is split. */
static bool decodes(const cop_device *d, const cop_sequence *s)
{
    return s->count == 1 && !d->options.deterministic;
}

static cop_step_size measure(const cop_device *d, const cop_batch *batch, bool *decode_only)
{
    cop_step_size size = {.sequences = batch->count};
    uint32_t longest = 0;
    *decode_only = true;
    for (uint32_t i = 0; i < batch->count; i++) {
        const cop_sequence *s = &batch->sequences[i];
        size.rows += s->count;
        size.sampled += s->sample;
        *decode_only = *decode_only && s->count == 1 && s->sample;
        if (!decodes(d, s))
            size.tiles += ceil_div(s->count, COP_QUERY_TILE);
        else if (s->start >= longest)
            longest = s->start + 1;
        size.decodes += decodes(d, s);
    }
    if (*decode_only) {
        uint32_t room = cop_cuda_bucket_size(cop_cuda_bucket(batch->count));
        room = room < d->max_decodes ? room : d->max_decodes;
        size.rows = size.sequences = size.sampled = room;
        size.decodes = size.decodes ? room : 0;
        size.tiles = size.tiles ? room : 0;
    }
    if (size.decodes)
        size.splits = cop_cuda_decode_splits(&d->shape, size.decodes, longest, d->multiprocessors);
    return size;
}

/* The next part of the buffer; *device: where it will be on the device. */
static void *part(layout *l, size_t bytes, void *device)
{
    const void *there = l->d->batch_device + l->used;
    void *here = l->d->batch_host + l->used;
    memcpy(device, &there, sizeof there);
    l->used += (bytes + 15) / 16 * 16;
    return here;
}

static void divide(layout *l)
{
    cop_cuda_batch *b = &l->d->batch;
    const cop_step_size *n = &l->size;
    l->counts = part(l, 3 * sizeof *l->counts, &b->counts);
    l->draw = part(l, n->sampled * sizeof *l->draw, &b->draw);
    l->sequence = part(l, n->sequences * sizeof *l->sequence, &b->sequence);
    l->tiles = part(l, n->tiles * sizeof *l->tiles, &l->d->tiles);
    l->token = part(l, n->rows * sizeof *l->token, &b->token);
    l->position = part(l, n->rows * sizeof *l->position, &b->position);
    l->slot = part(l, n->rows * sizeof *l->slot, &b->slot);
    l->blocks = part(l, 0, &b->blocks);
}

static void add_rows(layout *l, const cop_sequence *s)
{
    const uint32_t block_tokens = l->d->options.block_tokens;
    for (uint32_t i = 0; i < s->count; i++, l->rows++) {
        const uint32_t position = s->start + i;
        l->token[l->rows] = s->tokens[i];
        l->position[l->rows] = position;
        l->slot[l->rows] =
            s->blocks[position / block_tokens] * block_tokens + position % block_tokens;
    }
}

static void add_tiles(layout *l, const cop_sequence *s)
{
    for (uint32_t query = 0; query < s->count; query += COP_QUERY_TILE) {
        const uint32_t last = query + COP_QUERY_TILE;
        l->d->tile_end[l->tile_count++] = (cop_tile_end){
            .end = s->start + (last < s->count ? last : s->count),
            .tile = {l->sequences, query},
        };
    }
}

/* draw: the place of its draw, if it is sampled. */
static void add_sequence(layout *l, const cop_sequence *s, uint32_t draw)
{
    const uint32_t blocks = ceil_div(s->start + s->count, l->d->options.block_tokens);
    l->sequence[l->sequences] = (cop_cuda_sequence){l->rows, s->start, s->count, l->tables};
    memcpy(l->blocks + l->tables, s->blocks, blocks * sizeof *l->blocks);
    add_rows(l, s);
    if (!decodes(l->d, s))
        add_tiles(l, s);
    if (s->sample)
        l->draw[draw] = (cop_cuda_draw){
            .temperature = s->temperature,
            .top_p = s->top_p,
            .row = l->rows - 1,
            .position = s->start + s->count,
            .seed = s->sample_seed,
        };
    l->tables += blocks;
    l->sequences++;
}

static void add_sequences(layout *l, bool decoding)
{
    uint32_t draw = 0;
    for (uint32_t i = 0; i < l->from->count; i++) {
        const cop_sequence *s = &l->from->sequences[i];
        if (decodes(l->d, s) == decoding)
            add_sequence(l, s, draw);
        draw += s->sample;
    }
}

static int longest_first(const void *a, const void *b)
{
    const cop_tile_end *x = a, *y = b;
    if (x->end != y->end)
        return x->end < y->end ? 1 : -1;
    if (x->tile.sequence != y->tile.sequence)
        return x->tile.sequence < y->tile.sequence ? -1 : 1;
    return x->tile.query < y->tile.query ? -1 : x->tile.query > y->tile.query;
}

/* Those with the longest contexts begin first, so that the GPU is not left with one of them. */
static void sort_tiles(layout *l)
{
    cop_tile_end *ends = l->d->tile_end;
    qsort(ends, l->tile_count, sizeof *ends, longest_first);
    for (uint32_t i = 0; i < l->tile_count; i++)
        l->tiles[i] = ends[i].tile;
}

/* Places beyond the batch: sequences of no tokens, and tiles of one of them. */
static void pad(layout *l)
{
    for (uint32_t i = l->sequences; i < l->size.sequences; i++)
        l->sequence[i] = (cop_cuda_sequence){0};
    for (uint32_t i = l->tile_count; i < l->size.tiles; i++)
        l->tiles[i] = (cop_cuda_tile){.sequence = l->size.sequences - 1};
}

cop_status cop_cuda_lay_out(cop_device *d, const cop_batch *batch, cop_step_size *size,
                            bool *decode_only, cop_error *err)
{
    layout l = {.d = d, .from = batch, .size = measure(d, batch, decode_only)};
    divide(&l);
    add_sequences(&l, true);
    add_sequences(&l, false);
    sort_tiles(&l);
    pad(&l);
    d->sequences = batch->count;
    d->sampled = 0;
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->sequences[i].sample)
            d->sampled_sequence[d->sampled++] = i;
    memcpy(l.counts, (uint32_t[]){l.rows, l.sequences, d->sampled}, 3 * sizeof *l.counts);
    *size = l.size;
    COP_CUDA_TRY(err, cudaMemcpyAsync(d->batch_device, d->batch_host,
                                      l.used + l.tables * sizeof *l.blocks, cudaMemcpyHostToDevice,
                                      d->compute));
    return COP_OK;
}
