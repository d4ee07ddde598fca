/* Matrix products by cuBLASLt. Row-major y[rows][out] = x[rows][in] w[out][in]^T is column-major
 *
 *     Y (out x rows) = W^T X        W (in x out), X (in x rows): the same memory
 *
 * Which algorithm is best for a shape the library's heuristic says; it is asked once for each shape
 * and bucket of rows. Partial sums, where k is split, are float32.
 *
 * deterministic: one algorithm for each shape, chosen at FIXED_ROWS rows, and none that splits k:
 * then each output adds its products in the same order, whatever the number of rows. */
#include "cuda/cuda_device.h"

enum { FIXED_ROWS = 256, CANDIDATES = 16 };

uint32_t cop_cuda_bucket_size(uint32_t bucket)
{
    if (bucket == 0)
        return 1;
    return bucket % 2 ? 1u << (bucket + 1) / 2 : 3u << (bucket / 2 - 1);
}

uint32_t cop_cuda_bucket(uint32_t n)
{
    uint32_t bucket = 0;
    while (cop_cuda_bucket_size(bucket) < n)
        bucket++;
    return bucket;
}

cop_status cop_cuda_gemm_open(cop_gemm *g, uint32_t in, uint32_t out, size_t y_stride, bool bias,
                              cudaDataType_t y_type, uint32_t max_rows, cop_error *err)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t add_bias = CUBLASLT_EPILOGUE_BIAS;
    g->in = in;
    g->out = out;
    g->bias = bias;
    g->max_rows = max_rows;
    COP_CUBLAS_TRY(err, cublasLtMatmulDescCreate(&g->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    COP_CUBLAS_TRY(err, cublasLtMatmulDescSetAttribute(g->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                       &transposed, sizeof transposed));
    if (bias)
        COP_CUBLAS_TRY(err,
                       cublasLtMatmulDescSetAttribute(g->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                      &add_bias, sizeof add_bias));
    COP_CUBLAS_TRY(err, cublasLtMatrixLayoutCreate(&g->w, CUDA_R_16BF, in, out, in));
    COP_CUBLAS_TRY(err, cublasLtMatrixLayoutCreate(&g->x, CUDA_R_16BF, in, 1, in));
    COP_CUBLAS_TRY(err, cublasLtMatrixLayoutCreate(&g->y, y_type, out, 1, (int64_t)y_stride));
    return COP_OK;
}

void cop_cuda_gemm_close(cop_gemm *g)
{
    cublasLtMatrixLayout_t layouts[] = {g->w, g->x, g->y};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            cublasLtMatrixLayoutDestroy(layouts[i]);
    if (g->operation)
        cublasLtMatmulDescDestroy(g->operation);
}

static cop_status prefer(cop_device *d, cop_error *err)
{
    const size_t workspace = COP_WORKSPACE;
    const uint32_t reductions = d->options.deterministic ? CUBLASLT_REDUCTION_SCHEME_NONE
                                                         : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    COP_CUBLAS_TRY(err, cublasLtMatmulPreferenceCreate(&d->preference));
    COP_CUBLAS_TRY(err, cublasLtMatmulPreferenceSetAttribute(
                            d->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                            sizeof workspace));
    COP_CUBLAS_TRY(err, cublasLtMatmulPreferenceSetAttribute(
                            d->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                            sizeof reductions));
    return COP_OK;
}

cop_status cop_cuda_gemms_open(cop_device *d, cop_error *err)
{
    const cop_geometry *g = &d->g;
    const struct {
        uint32_t in, out;
        size_t y_stride;
        bool bias;
        cudaDataType_t y_type;
        uint32_t max_rows;
    } shapes[COP_PRODUCTS] = {
        [COP_PRODUCT_QKV] = {g->hidden, d->qkv_size, d->qkv_size, g->qkv_bias, CUDA_R_16BF,
                             d->max_rows},
        [COP_PRODUCT_O] = {d->q_size, g->hidden, g->hidden, false, CUDA_R_16BF, d->max_rows},
        [COP_PRODUCT_GATE_UP] = {g->hidden, 2 * g->ffn, 2 * g->ffn, false, CUDA_R_16BF,
                                 d->max_rows},
        [COP_PRODUCT_DOWN] = {g->ffn, g->hidden, g->hidden, false, CUDA_R_16BF, d->max_rows},
        [COP_PRODUCT_HEAD] = {g->hidden, g->vocab, d->logits_stride, false, CUDA_R_32F,
                              d->max_sequences},
    };
    COP_CUBLAS_TRY(err, cublasLtCreate(&d->cublas));
    cop_status status = prefer(d, err);
    for (int i = 0; i < COP_PRODUCTS && status == COP_OK; i++)
        status = cop_cuda_gemm_open(&d->gemm[i], shapes[i].in, shapes[i].out, shapes[i].y_stride,
                                    shapes[i].bias, shapes[i].y_type, shapes[i].max_rows, err);
    return status;
}

void cop_cuda_gemms_close(cop_device *d)
{
    for (int i = 0; i < COP_PRODUCTS; i++)
        cop_cuda_gemm_close(&d->gemm[i]);
    if (d->preference)
        cublasLtMatmulPreferenceDestroy(d->preference);
    if (d->cublas)
        cublasLtDestroy(d->cublas);
}

static cop_status set_rows(const cop_gemm *g, uint32_t rows, cop_error *err)
{
    const uint64_t columns = rows; /* of the column-major matrices */
    COP_CUBLAS_TRY(err, cublasLtMatrixLayoutSetAttribute(g->x, CUBLASLT_MATRIX_LAYOUT_COLS,
                                                         &columns, sizeof columns));
    COP_CUBLAS_TRY(err, cublasLtMatrixLayoutSetAttribute(g->y, CUBLASLT_MATRIX_LAYOUT_COLS,
                                                         &columns, sizeof columns));
    return COP_OK;
}

/* Whether an algorithm adds up k in one piece, and takes any number of rows. */
static bool fixed(const cop_device *d, const cop_gemm *g, const cublasLtMatmulAlgo_t *algorithm)
{
    int32_t splits = 0;
    uint32_t reduction = ~0u;
    if (cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits,
                                             sizeof splits, NULL) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                             &reduction, sizeof reduction,
                                             NULL) != CUBLAS_STATUS_SUCCESS ||
        splits < 0 || splits > 1 || reduction != CUBLASLT_REDUCTION_SCHEME_NONE)
        return false;
    const uint32_t rows[] = {1, 2, 16, g->max_rows};
    for (int i = 0; i < 4; i++) {
        cublasLtMatmulHeuristicResult_t result;
        if (set_rows(g, rows[i], NULL) != COP_OK ||
            cublasLtMatmulAlgoCheck(d->cublas, g->operation, g->w, g->x, g->y, g->y, algorithm,
                                    &result) != CUBLAS_STATUS_SUCCESS ||
            result.workspaceSize > COP_WORKSPACE)
            return false;
    }
    return true;
}

static cop_status choose(cop_device *d, cop_gemm *g, uint32_t bucket, cop_error *err)
{
    const bool deterministic = d->options.deterministic;
    const uint32_t rows = deterministic ? FIXED_ROWS : cop_cuda_bucket_size(bucket);
    cublasLtMatmulHeuristicResult_t results[CANDIDATES];
    int count = 0;
    cop_status status = set_rows(g, rows, err);
    if (status != COP_OK)
        return status;
    COP_CUBLAS_TRY(err, cublasLtMatmulAlgoGetHeuristic(
                            d->cublas, g->operation, g->w, g->x, g->y, g->y, d->preference,
                            deterministic ? CANDIDATES : 1, results, &count));
    for (int i = 0; i < count; i++)
        if (results[i].state == CUBLAS_STATUS_SUCCESS &&
            (!deterministic || fixed(d, g, &results[i].algo))) {
            g->choice[bucket].algorithm = results[i].algo;
            g->choice[bucket].known = true;
            return COP_OK;
        }
    return cop_fail(err, COP_ERR_DEVICE,
                    "cuBLASLt has no %salgorithm for %u rows by a matrix of %u x %u",
                    deterministic ? "deterministic " : "", rows, g->out, g->in);
}

cop_status cop_cuda_multiply(cop_device *d, cop_gemm *g, const uint16_t *w, const uint16_t *bias,
                             const uint16_t *x, uint32_t rows, void *y, cop_error *err)
{
    const float one = 1, zero = 0;
    const uint32_t bucket = d->options.deterministic ? 0 : cop_cuda_bucket(rows);
    if (g->bias)
        COP_CUBLAS_TRY(err, cublasLtMatmulDescSetAttribute(g->operation,
                                                           CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                           sizeof bias));
    cop_status status = g->choice[bucket].known ? COP_OK : choose(d, g, bucket, err);
    if (status == COP_OK)
        status = set_rows(g, rows, err);
    if (status != COP_OK)
        return status;
    COP_CUBLAS_TRY(err, cublasLtMatmul(d->cublas, g->operation, &one, w, g->w, x, g->x, &zero, y,
                                       g->y, y, g->y, &g->choice[bucket].algorithm, d->workspace,
                                       COP_WORKSPACE, d->compute));
    return COP_OK;
}
