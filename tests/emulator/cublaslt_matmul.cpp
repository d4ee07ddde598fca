/* What the fake cublasLt multiplies, and when: cublasLtMatmul checks everything that the real one
 * could refuse, and queues the product on the stream.
 *
 * Types, as in the table of the library's documentation for CUBLAS_COMPUTE_32F:
 *     A and B   C and D       bias        alpha, beta
 *     BF16      BF16          BF16        float32, on the host
 *     BF16      float32       float32
 *     float32   float32       float32
 * Column-major only; the epilogues DEFAULT and BIAS only. */
#include "cublaslt_private.h"
#include "emulator.h"

#include <string.h>

using namespace fake_cublaslt;

static size_t element_bytes(uint32_t type)
{
    return type == CUDA_R_16BF ? 2 : 4;
}

static cublasStatus_t check_types(const matmul_desc *matmul, const layout *a, const layout *b,
                                  const layout *c, const layout *d)
{
    if ((matmul->compute_type != CUBLAS_COMPUTE_32F &&
         matmul->compute_type != CUBLAS_COMPUTE_32F_PEDANTIC) ||
        matmul->scale_type != CUDA_R_32F)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                      "compute type %d with scale type %d: the emulator has float32 only",
                      matmul->compute_type, matmul->scale_type);
    const bool bf16 = a->type == CUDA_R_16BF && b->type == CUDA_R_16BF;
    const bool f32 = a->type == CUDA_R_32F && b->type == CUDA_R_32F;
    const bool output = d->type == CUDA_R_32F || (bf16 && d->type == CUDA_R_16BF);
    if (!(bf16 || f32) || c->type != d->type || !output)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                      "types of A, B, C, D: %u, %u, %u, %u (float32 is %d, BF16 is %d)", a->type,
                      b->type, c->type, d->type, CUDA_R_32F, CUDA_R_16BF);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_layout(const char *name, const layout *l, int32_t batches)
{
    if (l->rows == 0 || l->columns == 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s is empty: %lu x %lu", name, l->rows,
                      l->columns);
    if (l->order != CUBLASLT_ORDER_COL || l->batch_mode != CUBLASLT_BATCH_MODE_STRIDED ||
        l->plane_offset != 0)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                      "%s: the emulator has column-major matrices in strided batches only", name);
    if (l->stride < 0 || (uint64_t)l->stride < l->rows)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "%s: a leading dimension of %ld for columns of %lu elements", name, l->stride,
                      l->rows);
    if (l->batch_count < 1 || l->batch_count != batches || l->batch_stride < 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: %d batches %ld apart, where D has %d", name,
                      l->batch_count, l->batch_stride, batches);
    return CUBLAS_STATUS_SUCCESS;
}

/* Everything of the operation that this fake would have to do otherwise than it does. */
static cublasStatus_t check_operation(const matmul_desc *matmul, const layout *d)
{
    const bool scaled = matmul->scale_a || matmul->scale_b || matmul->scale_c || matmul->scale_d ||
                        matmul->scale_aux || matmul->scale_out || matmul->amax_d ||
                        matmul->amax_aux || matmul->emulation;
    if (scaled || matmul->transc != CUBLAS_OP_N || matmul->fill_mode != CUBLAS_FILL_MODE_FULL)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                      "the emulator has no scaled, transposed or triangular outputs");
    if (matmul->pointer_mode != CUBLASLT_POINTER_MODE_HOST)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the emulator takes alpha and beta on the host");
    if (matmul->epilogue != CUBLASLT_EPILOGUE_DEFAULT && matmul->epilogue != CUBLASLT_EPILOGUE_BIAS)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "epilogue %u: the emulator has DEFAULT and BIAS",
                      matmul->epilogue);
    if (matmul->epilogue == CUBLASLT_EPILOGUE_BIAS && matmul->bias_type != -1 &&
        matmul->bias_type != (int32_t)d->type)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "a bias of type %d for an output of type %u",
                      matmul->bias_type, d->type);
    return CUBLAS_STATUS_SUCCESS;
}

static bool transposed(int32_t operation)
{
    return operation != CUBLAS_OP_N; /* nothing here is complex: C is T */
}

cublasStatus_t fake_cublaslt::check_problem(const matmul_desc *matmul, const layout *a,
                                            const layout *b, const layout *c, const layout *d,
                                            product *p)
{
    if (!matmul || !a || !b || !c || !d)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "the descriptor of %s is missing or destroyed",
                      !matmul ? "the operation"
                      : !a    ? "A"
                      : !b    ? "B"
                      : !c    ? "C"
                              : "D");
    cublasStatus_t status = check_types(matmul, a, b, c, d);
    const layout *layouts[] = {a, b, c, d};
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < 4; i++)
        status = check_layout(&"A\0B\0C\0D"[2 * i], layouts[i], d -> batch_count);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_operation(matmul, d);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    const bool ta = transposed(matmul->transa), tb = transposed(matmul->transb);
    const size_t m = ta ? a->columns : a->rows, k = ta ? a->rows : a->columns;
    const size_t n = tb ? b->rows : b->columns, k_of_b = tb ? b->columns : b->rows;
    if (k != k_of_b || d->rows != m || d->columns != n || c->rows != m || c->columns != n)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "op(A) %zu x %zu, op(B) %zu x %zu, C %lu x %lu, D %lu x %lu don't fit", m, k,
                      k_of_b, n, c->rows, c->columns, d->rows, d->columns);
    *p = {};
    p->m = m;
    p->n = n;
    p->k = k;
    p->batches = (size_t)d->batch_count;
    const size_t lda = (size_t)a->stride, ldb = (size_t)b->stride;
    p->a = {nullptr, a->type == CUDA_R_16BF, ta ? lda : 1, ta ? 1 : lda, (size_t)a->batch_stride};
    p->b = {nullptr, b->type == CUDA_R_16BF, tb ? 1 : ldb, tb ? ldb : 1, (size_t)b->batch_stride};
    p->output_bf16 = d->type == CUDA_R_16BF;
    p->c_stride = (size_t)c->stride;
    p->c_batch_stride = (size_t)c->batch_stride;
    p->d_stride = (size_t)d->stride;
    p->d_batch_stride = (size_t)d->batch_stride;
    p->bias_batch_stride = (size_t)matmul->bias_batch_stride;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- pointers --------------------------------------------------------------------------- */

/* Bytes from the first element to the end of the last. */
static size_t extent(const layout *l)
{
    const size_t last = (l->columns - 1) * (size_t)l->stride + l->rows +
                        ((size_t)l->batch_count - 1) * (size_t)l->batch_stride;
    return last * element_bytes(l->type);
}

static cublasStatus_t check_pointer(const char *name, const void *data)
{
    if (!data || (uintptr_t)data % ALIGNMENT != 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s is %s: %p", name,
                      data ? "not aligned to 16 bytes" : "missing", data);
    return CUBLAS_STATUS_SUCCESS;
}

static bool overlap(const void *x, size_t x_bytes, const void *y, size_t y_bytes)
{
    const auto p = (uintptr_t)x, q = (uintptr_t)y;
    return p < q + y_bytes && q < p + x_bytes;
}

/* D is written while A and B are read; C may be D itself, element for element. */
static cublasStatus_t check_overlap(const product *p, const layout *a, const layout *b,
                                    const layout *c, const layout *d)
{
    if (overlap(p->d, extent(d), p->a.data, extent(a)) ||
        overlap(p->d, extent(d), p->b.data, extent(b)))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "D overlaps A or B");
    const bool in_place =
        p->c == p->d && c->stride == d->stride && c->batch_stride == d->batch_stride;
    if (!in_place && overlap(p->d, extent(d), p->c, extent(c)))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "C overlaps D, and is not D in the same layout");
    if (p->batches > 1 && p->d_batch_stride == 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%zu batches write to one D", p->batches);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_pointers(const product *p, const matmul_desc *matmul, const layout *a,
                                     const layout *b, const layout *c, const layout *d)
{
    const struct {
        const char *name;
        const void *data;
        size_t bytes;
    } needed[] = {
        {"A", p->a.data, extent(a)},
        {"B", p->b.data, extent(b)},
        /* Wanted even if beta is 0: what is accepted here has to be accepted everywhere. */
        {"C", p->c, extent(c)},
        {"D", p->d, extent(d)},
        {"the bias", p->bias,
         (p->m + (p->batches - 1) * p->bias_batch_stride) * element_bytes(d->type)},
    };
    const size_t count = matmul->epilogue == CUBLASLT_EPILOGUE_BIAS ? 5 : 4;
    for (size_t i = 0; i < count; i++) {
        cublasStatus_t status = check_pointer(needed[i].name, needed[i].data);
        if (status != CUBLAS_STATUS_SUCCESS)
            return status;
        emulator_need_device_memory(needed[i].data, needed[i].bytes, needed[i].name);
    }
    return check_overlap(p, a, b, c, d);
}

static cublasStatus_t check_workspace(size_t needed, void *workspace, size_t bytes)
{
    if (bytes < needed)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "a workspace of %zu bytes for an algorithm that needs %zu", bytes, needed);
    if (bytes == 0)
        return CUBLAS_STATUS_SUCCESS;
    cublasStatus_t status = check_pointer("the workspace", workspace);
    if (status == CUBLAS_STATUS_SUCCESS)
        emulator_need_device_memory(workspace, bytes, "the workspace");
    return status;
}

/* ---- the product ------------------------------------------------------------------------ */

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *A, cublasLtMatrixLayout_t layout_a,
                              const void *B, cublasLtMatrixLayout_t layout_b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t layout_c, void *D,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    if (!handle || handle->kind != KIND_HANDLE)
        return refuse(CUBLAS_STATUS_NOT_INITIALIZED, "cublasLtMatmul: not a handle");
    if (!alpha || !beta)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatmul: no alpha or no beta");
    if (emulator_fails("cublasLtMatmul"))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    const auto *matmul = open_as<matmul_desc>(operation, KIND_MATMUL);
    const auto *a = open_as<layout>(layout_a, KIND_LAYOUT);
    const auto *b = open_as<layout>(layout_b, KIND_LAYOUT);
    const auto *c = open_as<layout>(layout_c, KIND_LAYOUT);
    const auto *d = open_as<layout>(layout_d, KIND_LAYOUT);
    product p;
    cublasStatus_t status = check_problem(matmul, a, b, c, d, &p);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    memcpy(&p.alpha, alpha, sizeof p.alpha);
    memcpy(&p.beta, beta, sizeof p.beta);
    p.a.data = A;
    p.b.data = B;
    p.c = C;
    p.d = D;
    p.bias = matmul->epilogue == CUBLASLT_EPILOGUE_BIAS ? matmul->bias : nullptr;
    status = check_pointers(&p, matmul, a, b, c, d);
    size_t scratch_bytes = 0;
    if (status == CUBLAS_STATUS_SUCCESS && algo)
        status = check_algorithm(open_as<const algorithm>(algo, KIND_ALGO), matmul, a, b, c, d, &p,
                                 &scratch_bytes);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_workspace(scratch_bytes, workspace, workspace_bytes);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    emulator_enqueue(stream, [p, workspace, scratch_bytes] {
        if (scratch_bytes) /* the real one leaves its partial sums there */
            memset(workspace, 0xff, scratch_bytes);
        multiply(&p);
        return true;
    });
    return CUBLAS_STATUS_SUCCESS;
}
