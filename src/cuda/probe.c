/* What this GPU could do at best, measured with the memory, weights and kernels of an open device.
 * Each probe queues the same work ROUNDS times, an event before and after each; the first is a
 * warm-up, of the others the median counts. */
#include "base/alloc.h"
#include "base/check.h"
#include "base/median.h"
#include "cuda/cuda_device.h"

#include <stdlib.h>

enum {
    ROUNDS = 6,
    PEAK_SIDE = 8192,      /* of the square matrices of the peak; less if the pool is small */
    LARGEST_COPY = 1 << 30 /* bytes */
};

typedef struct {
    cop_device *d;
    uint32_t rows, context;
    double work;
    size_t bytes;  /* of a copy */
    char *host;    /* pinned */
    cop_gemm peak; /* side x side */
    cop_step_size size;
} probe;

typedef cop_status run_fn(probe *p, cop_error *err);

static size_t pool_bytes(const cop_device *d)
{
    return (size_t)d->blocks * d->block_bytes;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static cop_status measure(probe *p, run_fn *run, cop_probe *out, cop_error *err)
{
    cop_device *d = p->d;
    double took[ROUNDS - 1];
    for (int i = 0; i < ROUNDS; i++) {
        float milliseconds;
        COP_CUDA_TRY(err, cudaEventRecord(d->begun, d->compute));
        cop_status status = run(p, err);
        if (status != COP_OK)
            return status;
        COP_CUDA_TRY(err, cudaEventRecord(d->ended, d->compute));
        COP_CUDA_TRY(err, cudaEventSynchronize(d->ended));
        COP_CUDA_TRY(err, cudaEventElapsedTime(&milliseconds, d->begun, d->ended));
        if (i > 0)
            took[i - 1] = (double)milliseconds * 1e6;
    }
    *out = (cop_probe){.ns = (int64_t)cop_median(took, ROUNDS - 1), .work = p->work};
    return COP_OK;
}

/* The model's weights, again and again: matrix products of zeros, or of what memory happens to hold,
 * take another time on GPUs that are limited by power. */
static cop_status fill(const cop_device *d, void *to, size_t bytes, cop_error *err)
{
    for (size_t at = 0; at < bytes; at += d->weight_bytes)
        COP_CUDA_TRY(err, cudaMemcpyAsync((char *)to + at, d->weights,
                                          min_size(d->weight_bytes, bytes - at),
                                          cudaMemcpyDeviceToDevice, d->compute));
    return COP_OK;
}

static cop_status fill_inputs(const cop_device *d, cop_error *err)
{
    const size_t rows = d->max_rows, bf16 = sizeof(uint16_t);
    const struct {
        void *to;
        size_t bytes;
    } inputs[] = {{d->pool, pool_bytes(d)},
                  {d->h, rows * d->g.hidden * bf16},
                  {d->q, rows * d->q_size * bf16},
                  {d->mixed, rows * d->q_size * bf16},
                  {d->ffn, rows * d->g.ffn * bf16}};
    cop_status status = COP_OK;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs && status == COP_OK; i++)
        status = fill(d, inputs[i].to, inputs[i].bytes, err);
    return status;
}

/* ---- matrix products ---- */

static cop_status run_peak(probe *p, cop_error *err)
{
    uint16_t *const a = p->d->pool, *const b = a + (size_t)p->peak.in * p->peak.in;
    return cop_cuda_multiply(p->d, &p->peak, a, NULL, b, p->peak.in, b + (b - a), err);
}

static cop_status probe_peak(probe *p, cop_probe *out, cop_error *err)
{
    uint32_t side = PEAK_SIDE;
    while (side > 64 && 3 * sizeof(uint16_t) * side * side > pool_bytes(p->d))
        side -= 64;
    if (3 * sizeof(uint16_t) * side * side > pool_bytes(p->d))
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "the probe of the peak multiplies in the KV pool, and this one is too "
                        "small: raise cache.capacity_blocks");
    p->work = 2.0 * side * side * side;
    cop_status status =
        cop_cuda_gemm_open(&p->peak, side, side, side, false, CUDA_R_16BF, side, err);
    if (status == COP_OK)
        status = measure(p, run_peak, out, err);
    cop_cuda_gemm_close(&p->peak);
    return status;
}

static cop_status run_linear(probe *p, cop_error *err)
{
    cop_device *d = p->d;
    cop_gemm *gemm = d->gemm;
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < d->g.layers && status == COP_OK; i++) {
        const cop_cuda_layer *w = &d->layers[i];
        status = cop_cuda_multiply(d, &gemm[COP_PRODUCT_QKV], w->qkv, w->qkv_bias, d->h, p->rows,
                                   d->qkv, err);
        if (status == COP_OK)
            status = cop_cuda_multiply(d, &gemm[COP_PRODUCT_O], w->o, NULL, d->mixed, p->rows,
                                       d->delta, err);
        if (status == COP_OK)
            status = cop_cuda_multiply(d, &gemm[COP_PRODUCT_GATE_UP], w->gate_up, NULL, d->h,
                                       p->rows, d->gate_up, err);
        if (status == COP_OK)
            status = cop_cuda_multiply(d, &gemm[COP_PRODUCT_DOWN], w->down, NULL, d->ffn, p->rows,
                                       d->delta, err);
    }
    return status;
}

static cop_status probe_linear(probe *p, cop_probe *out, cop_error *err)
{
    p->work = 2.0 * (double)cop_geometry_linear_weights(&p->d->g) * p->rows;
    return measure(p, run_linear, out, err);
}

/* ---- memory ---- */

static cop_status run_read(probe *p, cop_error *err)
{
    cop_device *d = p->d;
    COP_CUDA_TRY(err, cop_cuda_read_all(d->weights, d->decode_bytes, d->drawn, d->multiprocessors,
                                        d->compute));
    return COP_OK;
}

static cop_status probe_read(probe *p, cop_probe *out, cop_error *err)
{
    p->work = (double)p->d->decode_bytes;
    return measure(p, run_read, out, err);
}

static cop_status run_copy(probe *p, cop_error *err)
{
    char *const from = (char *)p->d->pool;
    COP_CUDA_TRY(err, cudaMemcpyAsync(from + p->bytes, from, p->bytes, cudaMemcpyDeviceToDevice,
                                      p->d->compute));
    return COP_OK;
}

static cop_status probe_copy(probe *p, cop_probe *out, cop_error *err)
{
    p->bytes = min_size(LARGEST_COPY, pool_bytes(p->d) / 2);
    p->work = 2.0 * (double)p->bytes;
    return measure(p, run_copy, out, err);
}

static cop_status run_out(probe *p, cop_error *err)
{
    COP_CUDA_TRY(
        err, cudaMemcpyAsync(p->host, p->d->pool, p->bytes, cudaMemcpyDeviceToHost, p->d->compute));
    return COP_OK;
}

static cop_status run_in(probe *p, cop_error *err)
{
    COP_CUDA_TRY(
        err, cudaMemcpyAsync(p->d->pool, p->host, p->bytes, cudaMemcpyHostToDevice, p->d->compute));
    return COP_OK;
}

static cop_status probe_host(probe *p, run_fn *run, cop_probe *out, cop_error *err)
{
    p->bytes = min_size(LARGEST_COPY, pool_bytes(p->d));
    p->work = (double)p->bytes;
    COP_CUDA_TRY(err, cudaMallocHost((void **)&p->host, p->bytes));
    cop_status status = measure(p, run, out, err);
    cudaStreamSynchronize(p->d->compute);
    cudaFreeHost(p->host);
    return status;
}

static cop_status probe_out(probe *p, cop_probe *out, cop_error *err)
{
    return probe_host(p, run_out, out, err);
}

static cop_status probe_in(probe *p, cop_probe *out, cop_error *err)
{
    return probe_host(p, run_in, out, err);
}

/* ---- attention ---- */

/* `sequences` of `count` tokens after `start`, in blocks of their own: what two of them shared would
 * be read from the L2 cache the second time. */
static cop_status lay_out(probe *p, uint32_t sequences, uint32_t start, uint32_t count,
                          cop_error *err)
{
    cop_device *d = p->d;
    const uint32_t block_tokens = d->options.block_tokens;
    const uint32_t each = (start + count + block_tokens - 1) / block_tokens;
    if ((uint64_t)sequences * each > d->blocks)
        return cop_fail(err, COP_ERR_INVALID,
                        "a probe of %u sequences of %u blocks each; the pool has %u "
                        "(cache.capacity_blocks)",
                        sequences, each, d->blocks);
    uint32_t *tokens = cop_calloc(count, sizeof *tokens);
    uint32_t *blocks = cop_malloc((size_t)sequences * each * sizeof *blocks);
    cop_sequence *s = cop_calloc(sequences, sizeof *s);
    for (uint32_t i = 0; i < sequences; i++) {
        s[i] = (cop_sequence){
            .tokens = tokens, .start = start, .count = count, .blocks = blocks + (size_t)i * each};
        for (uint32_t k = 0; k < each; k++)
            blocks[(size_t)i * each + k] = i * each + k;
    }
    const cop_batch batch = {.count = sequences, .sequences = s};
    bool decode_only;
    cop_status status = cop_cuda_lay_out(d, &batch, &p->size, &decode_only, err);
    free(tokens);
    free(blocks);
    free(s);
    return status;
}

static cop_status run_attention(probe *p, cop_error *err)
{
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < p->d->g.layers && status == COP_OK; i++)
        status = cop_cuda_attend(p->d, p->size, i, err);
    return status;
}

static cop_status check_sizes(const probe *p, uint32_t sequences, uint64_t end, cop_error *err)
{
    const cop_device *d = p->d;
    if (p->rows < 1 || p->rows > d->max_rows || sequences > d->max_sequences || end < 1 ||
        end > d->max_context)
        return cop_fail(err, COP_ERR_INVALID,
                        "a probe of %u rows at context %u; this device takes %u rows, %u sequences "
                        "and contexts of %u",
                        p->rows, p->context, d->max_rows, d->max_sequences, d->max_context);
    return COP_OK;
}

/* Scores and values: two products, each a multiplication and an addition, of each pair. */
static cop_status probe_prefill(probe *p, cop_probe *out, cop_error *err)
{
    const double rows = p->rows, pairs = rows * p->context + rows * (rows + 1) / 2;
    cop_status status = check_sizes(p, 1, (uint64_t)p->context + p->rows, err);
    if (status == COP_OK)
        status = lay_out(p, 1, p->context, p->rows, err);
    p->work = 4 * pairs * p->d->q_size * p->d->g.layers;
    return status == COP_OK ? measure(p, run_attention, out, err) : status;
}

/* Keys and values of all contexts are read. */
static cop_status probe_decode(probe *p, cop_probe *out, cop_error *err)
{
    cop_status status = check_sizes(p, p->rows, p->context, err);
    if (status == COP_OK)
        status = lay_out(p, p->rows, p->context - 1, 1, err);
    p->work = (double)cop_geometry_kv_bytes(&p->d->g, sizeof(uint16_t)) * p->context * p->rows;
    return status == COP_OK ? measure(p, run_attention, out, err) : status;
}

cop_status cop_cuda_probe(cop_device *d, cop_probe_kind kind, uint32_t rows, uint32_t context,
                          cop_probe *out, cop_error *err)
{
    static cop_status (*const probes[])(probe *, cop_probe *, cop_error *) = {
        [COP_PROBE_PEAK] = probe_peak,
        [COP_PROBE_LINEAR] = probe_linear,
        [COP_PROBE_READ] = probe_read,
        [COP_PROBE_COPY] = probe_copy,
        [COP_PROBE_PREFILL_ATTENTION] = probe_prefill,
        [COP_PROBE_DECODE_ATTENTION] = probe_decode,
        [COP_PROBE_HOST_OUT] = probe_out,
        [COP_PROBE_HOST_IN] = probe_in,
    };
    COP_CHECK(!d->in_flight && rows <= d->max_rows);
    if (kind >= sizeof probes / sizeof *probes || !probes[kind])
        return cop_fail(err, COP_ERR_UNSUPPORTED, "the cuda device has no probe %d", (int)kind);
    probe p = {.d = d, .rows = rows, .context = context};
    cop_status status = cop_cuda_enter(d, err);
    if (status == COP_OK) /* the pool is overwritten */
        COP_CUDA_TRY(err, cudaStreamSynchronize(d->moves));
    if (status == COP_OK)
        status = fill_inputs(d, err);
    return status == COP_OK ? probes[kind](&p, out, err) : status;
}
