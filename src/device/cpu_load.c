/* Memory of a CPU device, and its weights. */
#include "base/alloc.h"
#include "base/check.h"
#include "device/cpu.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SLACK = 4096 }; /* prefetching and reading in steps may look past the end */

static cop_status allocate(cop_device *d, void *out, size_t bytes, const char *what, cop_error *err)
{
    void *p;
    cop_status status = cop_alloc_large(&p, bytes + SLACK, what, err);
    if (status != COP_OK)
        return status;
    d->large = cop_realloc(d->large, (d->large_count + 1) * sizeof *d->large);
    d->large_bytes = cop_realloc(d->large_bytes, (d->large_count + 1) * sizeof *d->large_bytes);
    d->large[d->large_count] = p;
    d->large_bytes[d->large_count++] = bytes + SLACK;
    memcpy(out, &p, sizeof p);
    return COP_OK;
}

typedef struct {
    void *pointer; /* of any pointer type */
    size_t bytes;
    const char *what;
} need;

static cop_status allocate_all(cop_device *d, const need *needs, size_t count, cop_error *err)
{
    for (size_t i = 0; i < count; i++) {
        cop_status status = allocate(d, needs[i].pointer, needs[i].bytes, needs[i].what, err);
        if (status != COP_OK)
            return status;
    }
    return COP_OK;
}

static cop_status allocate_activations(cop_device *d, cop_error *err)
{
    const size_t rows = d->max_rows, act = d->kernels->act_bytes;
    const cop_geometry *g = &d->g;
    const size_t items = (rows / COP_QUERY_TOKENS + d->max_sequences) * g->kv_heads;
    const need needs[] = {
        {&d->x, rows * g->hidden * sizeof(float), "the residual stream"},
        {&d->h, rows * g->hidden * act, "activations"},
        {&d->qkv, rows * d->qkv_size * sizeof(float), "activations"},
        {&d->q, rows * d->q_size * act, "activations"},
        {&d->mixed, rows * d->q_size * act, "activations"},
        {&d->ffn, rows * g->ffn * act, "activations"},
        {&d->logits, (size_t)d->max_sequences * d->padded_vocab * sizeof(float), "logits"},
        {&d->last, (size_t)d->max_sequences * g->hidden * act, "activations"},
        {&d->kv, (size_t)d->options.blocks * d->block_bytes, "the KV pool (cache.capacity_blocks)"},
        {&d->host, (size_t)d->options.host_slots * d->block_bytes,
         "the host tier (cache.host_blocks)"},
        {&d->row, rows * sizeof *d->row, "the batch"},
        {&d->item, items * sizeof *d->item, "the batch"},
        {&d->first_row, d->max_sequences * sizeof *d->first_row, "the batch"},
        {&d->sampled_sequence, d->max_sequences * sizeof *d->sampled_sequence, "the batch"},
        {&d->result.tokens, d->max_sequences * sizeof *d->result.tokens, "the batch"},
        {&d->result.digests, d->max_sequences * sizeof *d->result.digests, "the batch"},
    };
    return allocate_all(d, needs, sizeof needs / sizeof *needs, err);
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static cop_status allocate_scratch(cop_device *d, cop_error *err)
{
    const cop_geometry *g = &d->g;
    const size_t panel_bytes = d->kernels->panel_bytes;
    const bool int8 = d->options.int8_weights;
    size_t panel = COP_PANEL * g->head_dim * panel_bytes;
    size_t attention_rows = (size_t)COP_QUERY_TOKENS * d->group;
    size_t widest = max_size(max_size(g->ffn, g->hidden), d->q_size);
    d->scratch = cop_calloc(d->options.threads, sizeof *d->scratch);
    for (uint32_t i = 0; i < d->options.threads; i++) {
        cop_scratch *s = &d->scratch[i];
        const need needs[] = {
            {&s->sums, sizeof(float) * COP_ROW_BLOCK * 2 * COP_PANEL, "scratch"},
            {&s->row, sizeof(float) * widest, "scratch"},
            {&s->keys, panel, "scratch"},
            {&s->values, panel, "scratch"},
            {&s->attention, sizeof(float) * attention_rows * g->head_dim, "scratch"},
            {&s->softmax, sizeof *s->softmax * attention_rows, "scratch"},
            {&s->rows, sizeof *s->rows * COP_PANEL * widest, "scratch"},
            {&s->converted, panel_bytes * COP_PANEL * COP_LOAD_BLOCK, "scratch"},
            {&s->unpacked, int8 ? panel_bytes * COP_PANEL * COP_INT8_BLOCK : 0, "scratch"},
            {&s->weights, sizeof *s->weights * g->vocab, "scratch"},
        };
        cop_status status = allocate_all(d, needs, sizeof needs / sizeof *needs, err);
        if (status != COP_OK)
            return status;
    }
    return COP_OK;
}

/* Takes the next part of the packed weights. */
static void place(cop_device *d, cop_matrix *m, uint32_t in, uint32_t out)
{
    *m = (cop_matrix){.in = in, .out = out};
    m->panels = d->packed ? d->packed + d->packed_bytes : NULL;
    m->factors = d->factors ? d->factors + d->columns : NULL;
    d->packed_bytes += (size_t)in * out * d->weight_bytes;
    d->columns += out;
}

static void place_all(cop_device *d)
{
    const cop_geometry *g = &d->g;
    d->packed_bytes = d->columns = 0;
    for (uint32_t i = 0; i < g->layers; i++) {
        place(d, &d->layers[i].qkv, g->hidden, d->qkv_size);
        place(d, &d->layers[i].o, d->q_size, g->hidden);
        place(d, &d->layers[i].gate_up, g->hidden, 2 * g->ffn);
        place(d, &d->layers[i].down, g->ffn, g->hidden);
    }
    place(d, &d->head, g->hidden, d->padded_vocab);
}

static float *take(float **p, size_t floats, bool wanted)
{
    float *taken = *p;
    *p += wanted ? floats : 0;
    return wanted ? taken : NULL;
}

static void place_vectors(cop_device *d)
{
    const cop_geometry *g = &d->g;
    float *p = d->vectors;
    for (uint32_t i = 0; i < g->layers; i++) {
        cop_layer *w = &d->layers[i];
        w->norm1 = take(&p, g->hidden, true);
        w->norm2 = take(&p, g->hidden, true);
        w->qkv_bias = take(&p, d->qkv_size, g->qkv_bias);
        w->q_norm = take(&p, g->head_dim, g->qk_norm);
        w->k_norm = take(&p, g->head_dim, g->qk_norm);
    }
    d->final_norm = p;
}

static cop_status allocate_weights(cop_device *d, cop_error *err)
{
    const cop_geometry *g = &d->g;
    d->layers = cop_calloc(g->layers, sizeof *d->layers);
    place_all(d); /* once to know the size, once for the addresses */
    size_t floats = (size_t)g->layers * (2 * g->hidden + d->qkv_size + 2 * g->head_dim) + g->hidden;
    size_t table = (size_t)d->max_context * g->head_dim / 2 * sizeof(float);
    const need needs[] = {
        {&d->packed, d->packed_bytes, "the weights"},
        {&d->vectors, floats * sizeof(float), "the weights"},
        {&d->cosine, table, "the position table"},
        {&d->sine, table, "the position table"},
    };
    cop_status status = allocate_all(d, needs, sizeof needs / sizeof *needs, err);
    if (status == COP_OK && d->options.int8_weights)
        status = allocate(d, &d->factors, d->columns * sizeof *d->factors, "the weights", err);
    if (status == COP_OK && (!g->tied_embeddings || d->options.int8_weights))
        status = allocate(d, &d->embedding, (size_t)g->vocab * g->hidden * d->kernels->panel_bytes,
                          "the embedding", err);
    if (status != COP_OK)
        return status;
    place_all(d);
    place_vectors(d);
    return COP_OK;
}

/* What one panel of a matrix, or 64 rows of the embedding, is read from. */
typedef struct {
    cop_matrix *matrix; /* NULL: the embedding */
    cop_tensor tensor;
    uint32_t layer, panel, row;
} piece;

typedef struct {
    cop_device *d;
    const cop_weights_source *source;
    piece *pieces;
    uint32_t count;
    cop_error *err;
    atomic_int failed; /* the first failing thread writes *err */
} loading;

static void add_piece(loading *l, piece p)
{
    l->pieces[l->count++] = p;
}

static void add_layer_pieces(loading *l, uint32_t layer)
{
    const cop_device *d = l->d;
    cop_layer *w = &d->layers[layer];
    const uint32_t q = d->q_size / COP_PANEL, kv = d->kv_size / COP_PANEL;
    for (uint32_t p = 0; p < q + 2 * kv; p++) {
        cop_tensor tensor = p < q ? COP_TENSOR_Q : p < q + kv ? COP_TENSOR_K : COP_TENSOR_V;
        uint32_t first = p < q ? 0 : p < q + kv ? q : q + kv;
        add_piece(l, (piece){&w->qkv, tensor, layer, p, (p - first) * COP_PANEL});
    }
    for (uint32_t p = 0; p < d->g.hidden / COP_PANEL; p++) {
        add_piece(l, (piece){&w->o, COP_TENSOR_O, layer, p, p * COP_PANEL});
        add_piece(l, (piece){&w->down, COP_TENSOR_DOWN, layer, p, p * COP_PANEL});
    }
    for (uint32_t p = 0; p < d->g.ffn / COP_PANEL; p++) {
        add_piece(l, (piece){&w->gate_up, COP_TENSOR_GATE, layer, 2 * p, p * COP_PANEL});
        add_piece(l, (piece){&w->gate_up, COP_TENSOR_UP, layer, 2 * p + 1, p * COP_PANEL});
    }
}

static void list_pieces(loading *l)
{
    const cop_device *d = l->d;
    const cop_geometry *g = &d->g;
    const uint32_t head_panels = d->padded_vocab / COP_PANEL;
    size_t each = (d->qkv_size + 2 * g->hidden + 2 * g->ffn) / COP_PANEL;
    l->pieces = cop_malloc((g->layers * each + 2 * head_panels) * sizeof *l->pieces);
    for (uint32_t i = 0; i < g->layers; i++)
        add_layer_pieces(l, i);
    cop_tensor head = g->tied_embeddings ? COP_TENSOR_EMBED : COP_TENSOR_HEAD;
    for (uint32_t p = 0; p < head_panels; p++) {
        add_piece(l, (piece){&l->d->head, head, 0, p, p * COP_PANEL});
        if (d->embedding)
            add_piece(l, (piece){NULL, COP_TENSOR_EMBED, 0, p, p * COP_PANEL});
    }
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static const char *const tensor_names[COP_TENSORS] = {
    "embed",  "head", "final norm", "norm 1", "q",  "k",    "v",      "q bias", "k bias",
    "v bias", "o",    "norm 2",     "gate",   "up", "down", "q norm", "k norm",
};

static cop_status load_piece(loading *l, const piece *p, uint32_t thread, cop_error *err)
{
    cop_device *d = l->d;
    cop_scratch *scratch = &d->scratch[thread];
    const uint32_t count = min_u32(COP_PANEL, cop_tensor_shape_of(&d->g, p->tensor).rows - p->row);
    cop_weight_rows from;
    cop_status status = l->source->read(l->source->self, p->tensor, p->layer, p->row, count,
                                        scratch->rows, &from, err);
    if (status != COP_OK)
        return status;
    const size_t hidden = d->g.hidden, bytes = d->kernels->panel_bytes;
    uint32_t bad;
    if (p->matrix && !cop_pack_panel(d, p->matrix, p->panel, from, count, scratch, &bad))
        return cop_fail(err, COP_ERR_INVALID,
                        "model.weights=int8: row %u of %s in layer %u has a weight that is not a "
                        "finite number",
                        p->row + bad, tensor_names[p->tensor], p->layer);
    if (!p->matrix)
        cop_convert_weights(from.data, from.dtype, count * hidden, bytes,
                            d->embedding + p->row * hidden * bytes);
    return COP_OK;
}

static void load_task(void *ctx, uint32_t task, uint32_t thread)
{
    loading *l = ctx;
    cop_error err;
    if (atomic_load(&l->failed))
        return;
    cop_status status = load_piece(l, &l->pieces[task], thread, &err);
    int none = COP_OK;
    if (status != COP_OK && atomic_compare_exchange_strong(&l->failed, &none, (int)status) &&
        l->err)
        *l->err = err;
}

static cop_status load_vector(loading *l, cop_tensor tensor, uint32_t layer, float *out)
{
    const uint32_t n = cop_tensor_shape_of(&l->d->g, tensor).rows;
    cop_weight_rows from;
    cop_status status =
        l->source->read(l->source->self, tensor, layer, 0, n, l->d->scratch[0].rows, &from, l->err);
    if (status == COP_OK)
        cop_convert_weights(from.data, from.dtype, n, sizeof *out, out);
    return status;
}

static cop_status load_vectors(loading *l)
{
    const cop_device *d = l->d;
    const uint32_t q = d->q_size, kv = d->kv_size;
    cop_status status = load_vector(l, COP_TENSOR_FINAL_NORM, 0, d->final_norm);
    for (uint32_t i = 0; i < d->g.layers && status == COP_OK; i++) {
        const cop_layer *w = &d->layers[i];
        const bool bias = d->g.qkv_bias;
        const struct {
            cop_tensor tensor;
            float *out; /* NULL: the model has none */
        } vectors[] = {{COP_TENSOR_NORM1, w->norm1},
                       {COP_TENSOR_NORM2, w->norm2},
                       {COP_TENSOR_Q_BIAS, w->qkv_bias},
                       {COP_TENSOR_K_BIAS, bias ? w->qkv_bias + q : NULL},
                       {COP_TENSOR_V_BIAS, bias ? w->qkv_bias + q + kv : NULL},
                       {COP_TENSOR_Q_NORM, w->q_norm},
                       {COP_TENSOR_K_NORM, w->k_norm}};
        for (size_t v = 0; v < sizeof vectors / sizeof *vectors && status == COP_OK; v++)
            if (vectors[v].out)
                status = load_vector(l, vectors[v].tensor, i, vectors[v].out);
    }
    return status;
}

enum { POSITIONS = 256 }; /* of a task */

static void load_positions(void *ctx, uint32_t task, uint32_t thread)
{
    cop_device *d = ((loading *)ctx)->d;
    const uint32_t half = d->g.head_dim / 2, first = task * POSITIONS;
    const uint32_t left = d->max_context - first, count = left < POSITIONS ? left : POSITIONS;
    for (uint32_t i = 0; i < half; i++) {
        double frequency = cop_geometry_rope_frequency(&d->g, i);
        for (uint32_t position = first; position < first + count; position++) {
            d->cosine[(size_t)position * half + i] = (float)cos(position * frequency);
            d->sine[(size_t)position * half + i] = (float)sin(position * frequency);
        }
    }
}

static void load_job(void *ctx)
{
    loading *l = ctx;
    cop_pool_for(l->d->pool, l->count, load_task, l);
    if (!atomic_load(&l->failed))
        atomic_store(&l->failed, (int)load_vectors(l));
    cop_pool_for(l->d->pool, (l->d->max_context + POSITIONS - 1) / POSITIONS, load_positions, l);
}

cop_status cop_cpu_load(cop_device *d, const cop_weights_source *source, cop_error *err)
{
    cop_status status = allocate_activations(d, err);
    if (status == COP_OK)
        status = allocate_scratch(d, err);
    if (status == COP_OK)
        status = allocate_weights(d, err);
    if (status != COP_OK)
        return status;
    loading l = {.d = d, .source = source, .err = err};
    list_pieces(&l);
    cop_pool_start(d->pool, load_job, &l);
    cop_pool_wait(d->pool);
    free(l.pieces);
    return (cop_status)atomic_load(&l.failed);
}

void cop_cpu_unload(cop_device *d)
{
    for (size_t i = 0; i < d->large_count; i++)
        cop_free_large(d->large[i], d->large_bytes[i]);
    free(d->large);
    free(d->large_bytes);
    free(d->scratch);
    free(d->layers);
}
