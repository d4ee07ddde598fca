/* Weights from their source to the device: threads read rows, convert them into pinned memory, and
 * copy from there, each on a stream of its own with two buffers, so that reading, converting and
 * copying overlap. Position tables go the same way. */
#include "base/alloc.h"
#include "cuda/cuda_device.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    STAGING = 8 << 20, /* bytes of one of a thread's two buffers, unless a row is longer */
    MOST_THREADS = 16  /* more than the host link needs */
};

/* What a piece is made of: a tensor, or the angles of positions. */
enum { COSINE = COP_TENSORS, SINE };

/* Rows [row, row + rows) of `what`, `columns` elements each, to `to` on the device. */
typedef struct {
    int what; /* cop_tensor, COSINE, SINE */
    uint32_t layer, row, rows, columns;
    bool to_float; /* float32, else BF16 */
    char *to;
} piece;

typedef struct {
    cop_device *d;
    size_t staging; /* bytes of a buffer */
    piece *pieces;
    uint32_t count, capacity;
    atomic_uint next;
    atomic_int failed; /* the first failing thread writes *err */
    cop_error *err;
} loading;

typedef struct {
    cudaStream_t stream;
    cudaEvent_t copied[2];
    char *staging[2];  /* pinned */
    uint16_t *scratch; /* for sources that make their weights */
} lane;

/* ---- what is to be loaded ---- */

static void add(loading *l, int what, uint32_t layer, uint32_t rows, uint32_t columns,
                bool to_float, void *to)
{
    const size_t row_bytes = columns * (to_float ? sizeof(float) : sizeof(uint16_t));
    const uint32_t fit = (uint32_t)(l->staging / row_bytes), each = fit < rows ? fit : rows;
    for (uint32_t row = 0; row < rows; row += each) {
        COP_GROW(l->pieces, l->capacity, l->count + 1);
        l->pieces[l->count++] = (piece){.what = what,
                                        .layer = layer,
                                        .row = row,
                                        .rows = rows - row < each ? rows - row : each,
                                        .columns = columns,
                                        .to_float = to_float,
                                        .to = (char *)to + row * row_bytes};
    }
}

/* A matrix, or a bias: BF16. Returns what follows it. */
static uint16_t *add_matrix(loading *l, cop_tensor tensor, uint32_t layer, uint16_t *to)
{
    const cop_tensor_shape shape = cop_tensor_shape_of(&l->d->g, tensor);
    add(l, (int)tensor, layer, shape.rows, shape.columns, false, to);
    return to + (size_t)shape.rows * shape.columns;
}

static void add_norm(loading *l, cop_tensor tensor, uint32_t layer, float *to)
{
    const cop_tensor_shape shape = cop_tensor_shape_of(&l->d->g, tensor);
    if (to)
        add(l, (int)tensor, layer, shape.rows, shape.columns, true, to);
}

static void add_layer(loading *l, uint32_t layer)
{
    const cop_cuda_layer *w = &l->d->layers[layer];
    uint16_t *next = add_matrix(l, COP_TENSOR_Q, layer, w->qkv);
    next = add_matrix(l, COP_TENSOR_K, layer, next);
    add_matrix(l, COP_TENSOR_V, layer, next);
    if (w->qkv_bias) {
        next = add_matrix(l, COP_TENSOR_Q_BIAS, layer, w->qkv_bias);
        next = add_matrix(l, COP_TENSOR_K_BIAS, layer, next);
        add_matrix(l, COP_TENSOR_V_BIAS, layer, next);
    }
    add_matrix(l, COP_TENSOR_O, layer, w->o);
    add_matrix(l, COP_TENSOR_UP, layer, add_matrix(l, COP_TENSOR_GATE, layer, w->gate_up));
    add_matrix(l, COP_TENSOR_DOWN, layer, w->down);
    add_norm(l, COP_TENSOR_NORM1, layer, w->norm1);
    add_norm(l, COP_TENSOR_NORM2, layer, w->norm2);
    add_norm(l, COP_TENSOR_Q_NORM, layer, w->q_norm);
    add_norm(l, COP_TENSOR_K_NORM, layer, w->k_norm);
}

static void list_pieces(loading *l)
{
    cop_device *d = l->d;
    for (uint32_t i = 0; i < d->g.layers; i++)
        add_layer(l, i);
    add_norm(l, COP_TENSOR_FINAL_NORM, 0, d->final_norm);
    add_matrix(l, COP_TENSOR_EMBED, 0, d->embedding);
    if (d->head != d->embedding)
        add_matrix(l, COP_TENSOR_HEAD, 0, d->head);
    add(l, COSINE, 0, d->max_context, d->g.head_dim / 2, true, d->cosine);
    add(l, SINE, 0, d->max_context, d->g.head_dim / 2, true, d->sine);
}

/* ---- a thread ---- */

static void fill_angles(const cop_geometry *g, const piece *p, float *out)
{
    for (uint32_t i = 0; i < p->columns; i++) {
        const double frequency = cop_geometry_rope_frequency(g, i);
        for (uint32_t row = 0; row < p->rows; row++) {
            const double angle = (p->row + row) * frequency;
            out[(size_t)row * p->columns + i] = (float)(p->what == SINE ? sin(angle) : cos(angle));
        }
    }
}

static cop_status fill(const loading *l, const piece *p, uint16_t *scratch, void *out,
                       cop_error *err)
{
    const cop_weights_source *source = &l->d->options.weights;
    const size_t n = (size_t)p->rows * p->columns;
    cop_weight_rows from;
    if (p->what >= COP_TENSORS) {
        fill_angles(&l->d->g, p, out);
        return COP_OK;
    }
    cop_status status = source->read(source->self, (cop_tensor)p->what, p->layer, p->row, p->rows,
                                     scratch, &from, err);
    if (status != COP_OK)
        return status;
    if (p->to_float)
        cop_weights_to_float(from.data, from.dtype, n, out);
    else
        cop_weights_to_bf16(from.data, from.dtype, n, out);
    return COP_OK;
}

static cop_status open_lane(lane *t, const loading *l, cop_error *err)
{
    COP_CUDA_TRY(err, cudaSetDevice((int)l->d->options.index));
    COP_CUDA_TRY(err, cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking));
    for (int i = 0; i < 2; i++) {
        COP_CUDA_TRY(err, cudaEventCreateWithFlags(&t->copied[i], cudaEventDisableTiming));
        COP_CUDA_TRY(err, cudaMallocHost((void **)&t->staging[i], l->staging));
    }
    t->scratch = cop_malloc(l->staging);
    return COP_OK;
}

static void close_lane(lane *t)
{
    if (t->stream)
        cudaStreamDestroy(t->stream);
    for (int i = 0; i < 2; i++) {
        if (t->copied[i])
            cudaEventDestroy(t->copied[i]);
        cudaFreeHost(t->staging[i]);
    }
    free(t->scratch);
}

static cop_status load_pieces(loading *l, lane *t, cop_error *err)
{
    uint32_t taken;
    for (int turn = 0; (taken = atomic_fetch_add(&l->next, 1)) < l->count; turn = !turn) {
        const piece *p = &l->pieces[taken];
        if (atomic_load(&l->failed))
            return COP_OK;
        COP_CUDA_TRY(err, cudaEventSynchronize(t->copied[turn]));
        cop_status status = fill(l, p, t->scratch, t->staging[turn], err);
        if (status != COP_OK)
            return status;
        const size_t bytes =
            (size_t)p->rows * p->columns * (p->to_float ? sizeof(float) : sizeof(uint16_t));
        COP_CUDA_TRY(err, cudaMemcpyAsync(p->to, t->staging[turn], bytes, cudaMemcpyHostToDevice,
                                          t->stream));
        COP_CUDA_TRY(err, cudaEventRecord(t->copied[turn], t->stream));
    }
    COP_CUDA_TRY(err, cudaStreamSynchronize(t->stream));
    return COP_OK;
}

static void *run(void *self)
{
    loading *l = self;
    lane t = {0};
    cop_error err;
    cop_status status = open_lane(&t, l, &err);
    if (status == COP_OK)
        status = load_pieces(l, &t, &err);
    if (status != COP_OK && t.stream)
        cudaStreamSynchronize(t.stream); /* the buffers are still read */
    close_lane(&t);
    int none = COP_OK;
    if (status != COP_OK && atomic_compare_exchange_strong(&l->failed, &none, (int)status) &&
        l->err)
        *l->err = err;
    return NULL;
}

cop_status cop_cuda_load(cop_device *d, cop_error *err)
{
    pthread_t threads[MOST_THREADS];
    const cop_geometry *g = &d->g;
    const size_t widest = sizeof(uint16_t) * (g->ffn + g->hidden + d->q_size);
    loading l = {.d = d, .staging = widest > STAGING ? widest : STAGING, .err = err};
    list_pieces(&l);
    uint32_t wanted = d->options.threads < MOST_THREADS ? d->options.threads : MOST_THREADS;
    uint32_t started = 0;
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, run, &l) == 0)
        started++;
    run(&l); /* this thread is one of them */
    for (uint32_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(l.pieces);
    return (cop_status)atomic_load(&l.failed);
}
