/* What would otherwise happen at first use, in the middle of a run: kernels are loaded, algorithms of
 * matrix products chosen and loaded, steps that decode captured. That takes milliseconds, which would
 * be measured as latency; and CUDA may wait for all that is on the GPU while it loads, for ever if
 * that is a receive of NCCL whose sender waits for this rank. So it happens when the device opens. */
#include "base/alloc.h"
#include "cuda/cuda_device.h"

#include <stdlib.h>

/* One product, for every bucket of rows; its inputs are whatever the activations hold. */
static cop_status warm_product(cop_device *d, cop_gemm *g, const uint16_t *w, const uint16_t *bias,
                               const uint16_t *x, void *y, cop_error *err)
{
    const uint32_t last = d->options.deterministic ? 0 : cop_cuda_bucket(g->max_rows);
    cop_status status = COP_OK;
    for (uint32_t bucket = 0; bucket <= last && status == COP_OK; bucket++) {
        const uint32_t size = cop_cuda_bucket_size(bucket);
        status =
            cop_cuda_multiply(d, g, w, bias, x, size < g->max_rows ? size : g->max_rows, y, err);
    }
    return status;
}

static cop_status warm_products(cop_device *d, cop_error *err)
{
    const cop_cuda_layer *w = &d->layers[0];
    const struct {
        cop_product product;
        const uint16_t *w, *bias, *x;
        void *y;
    } all[] = {{COP_PRODUCT_QKV, w->qkv, w->qkv_bias, d->h, d->qkv},
               {COP_PRODUCT_O, w->o, NULL, d->mixed, d->delta},
               {COP_PRODUCT_GATE_UP, w->gate_up, NULL, d->h, d->gate_up},
               {COP_PRODUCT_DOWN, w->down, NULL, d->ffn, d->delta},
               {COP_PRODUCT_HEAD, d->head, NULL, d->last, d->logits}};
    cop_status status = COP_OK;
    for (int i = 0; i < COP_PRODUCTS && status == COP_OK; i++)
        status = warm_product(d, &d->gemm[all[i].product], all[i].w, all[i].bias, all[i].x,
                              all[i].y, err);
    return status;
}

/* Batches of `count` sequences: one graph for each number of splits that some context has. A batch is
 * laid out for its addresses alone, and never run. */
static cop_status prepare_graphs_of(cop_device *d, uint32_t count, const uint32_t *blocks,
                                    cop_sequence *sequences, cop_error *err)
{
    const cop_batch batch = {.count = count, .sequences = sequences};
    uint32_t context = 1;
    for (bool last = false; !last; context *= 2) {
        last = context >= d->max_context;
        const uint32_t start = (last ? d->max_context : context) - 1;
        cop_step_size size;
        bool decode_only;
        for (uint32_t i = 0; i < count; i++)
            sequences[i] = (cop_sequence){
                .tokens = blocks, .start = start, .count = 1, .blocks = blocks, .sample = true};
        cop_status status = cop_cuda_lay_out(d, &batch, &size, &decode_only, err);
        if (status == COP_OK)
            status = cop_cuda_graph_prepare(d, size, err);
        if (status != COP_OK)
            return status;
    }
    return COP_OK;
}

static cop_status prepare_graphs(cop_device *d, cop_error *err)
{
    const size_t table = d->max_context / d->options.block_tokens + 1;
    uint32_t *zeros = cop_calloc(table, sizeof *zeros); /* tokens and block tables */
    cop_sequence *sequences = cop_calloc(d->max_decodes, sizeof *sequences);
    cop_status status = COP_OK;
    for (uint32_t b = 0; b <= cop_cuda_bucket(d->max_decodes) && status == COP_OK; b++) {
        const uint32_t size = cop_cuda_bucket_size(b);
        status = prepare_graphs_of(d, size < d->max_decodes ? size : d->max_decodes, zeros,
                                   sequences, err);
        /* The next batch goes into the same pinned buffer. */
        if (status == COP_OK)
            COP_CUDA_TRY(err, cudaStreamSynchronize(d->compute));
    }
    free(zeros);
    free(sequences);
    return status;
}

cop_status cop_cuda_warm(cop_device *d, cop_error *err)
{
    COP_CUDA_TRY(err, cop_cuda_load_kernels());
    cop_status status = warm_products(d, err);
    if (status == COP_OK)
        status = prepare_graphs(d, err);
    if (status == COP_OK)
        COP_CUDA_TRY(err, cudaStreamSynchronize(d->compute));
    return status;
}
