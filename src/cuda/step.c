/* The launches of a step, in the order that kernels.h gives. */
#include "base/check.h"
#include "cuda/cuda_device.h"

cop_status cop_cuda_attend(cop_device *d, cop_step_size n, uint32_t layer, cop_error *err)
{
    COP_CHECK(cop_cuda_decode_scratch(&d->shape, n.decodes, n.splits) <= d->partial_bytes);
    if (n.decodes)
        COP_CUDA_TRY(err, cop_cuda_decode_attention(&d->shape, &d->batch, 0, n.decodes, n.splits,
                                                    layer, d->q, d->mixed, d->partial, d->compute));
    if (n.tiles)
        COP_CUDA_TRY(err, cop_cuda_prefill_attention(&d->shape, &d->batch, d->tiles, n.tiles, layer,
                                                     d->q, d->mixed, d->compute));
    return COP_OK;
}

/* From the normalised rows h to what attention adds to x. */
static cop_status run_attention(cop_device *d, cop_step_size n, uint32_t layer, cop_error *err)
{
    const cop_cuda_layer *w = &d->layers[layer];
    cop_status status = cop_cuda_multiply(d, &d->gemm[COP_PRODUCT_QKV], w->qkv, w->qkv_bias, d->h,
                                          n.rows, d->qkv, err);
    if (status != COP_OK)
        return status;
    COP_CUDA_TRY(err, cop_cuda_place_qkv(&d->shape, &d->batch, n.rows, layer, d->qkv, w->q_norm,
                                         w->k_norm, d->q, d->compute));
    status = cop_cuda_attend(d, n, layer, err);
    if (status != COP_OK)
        return status;
    return cop_cuda_multiply(d, &d->gemm[COP_PRODUCT_O], w->o, NULL, d->mixed, n.rows, d->delta,
                             err);
}

static cop_status run_ffn(cop_device *d, cop_step_size n, uint32_t layer, cop_error *err)
{
    const cop_cuda_layer *w = &d->layers[layer];
    cop_status status = cop_cuda_multiply(d, &d->gemm[COP_PRODUCT_GATE_UP], w->gate_up, NULL, d->h,
                                          n.rows, d->gate_up, err);
    if (status != COP_OK)
        return status;
    COP_CUDA_TRY(err,
                 cop_cuda_swiglu(&d->shape, &d->batch, n.rows, d->gate_up, d->ffn, d->compute));
    return cop_cuda_multiply(d, &d->gemm[COP_PRODUCT_DOWN], w->down, NULL, d->ffn, n.rows, d->delta,
                             err);
}

static cop_status run_layer(cop_device *d, cop_step_size n, uint32_t layer, cop_error *err)
{
    const cop_cuda_layer *w = &d->layers[layer];
    if (layer == 0)
        COP_CUDA_TRY(
            err, cop_cuda_rmsnorm(&d->shape, &d->batch, n.rows, d->x, w->norm1, d->h, d->compute));
    else
        COP_CUDA_TRY(err, cop_cuda_add_rmsnorm(&d->shape, &d->batch, n.rows, d->x, d->delta,
                                               w->norm1, d->h, d->compute));
    cop_status status = run_attention(d, n, layer, err);
    if (status != COP_OK)
        return status;
    COP_CUDA_TRY(err, cop_cuda_add_rmsnorm(&d->shape, &d->batch, n.rows, d->x, d->delta, w->norm2,
                                           d->h, d->compute));
    return run_ffn(d, n, layer, err);
}

static cop_status sample(cop_device *d, uint32_t sampled, cop_error *err)
{
    COP_CUDA_TRY(err, cop_cuda_last_rows(&d->shape, &d->batch, sampled, d->x, d->delta,
                                         d->final_norm, d->last, d->compute));
    cop_status status = cop_cuda_multiply(d, &d->gemm[COP_PRODUCT_HEAD], d->head, NULL, d->last,
                                          sampled, d->logits, err);
    if (status != COP_OK)
        return status;
    COP_CUDA_TRY(err, cop_cuda_sample(&d->shape, &d->batch, sampled, d->logits, d->logits_stride,
                                      d->drawn, d->sample_scratch, d->compute));
    return COP_OK;
}

cop_status cop_cuda_step(cop_device *d, cop_step_size n, cop_error *err)
{
    COP_CUDA_TRY(err, cop_cuda_embed(&d->shape, &d->batch, n.rows, d->embedding, d->x, d->compute));
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < d->g.layers && status == COP_OK; i++)
        status = run_layer(d, n, i, err);
    return status == COP_OK && n.sampled ? sample(d, n.sampled, err) : status;
}
