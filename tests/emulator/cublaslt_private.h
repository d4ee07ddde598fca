/* What the parts of the fake cublasLt share.
 *
 *     cublaslt.cpp          handle, descriptors and their attributes, texts
 *     cublaslt_algo.cpp     which algorithms there are for a problem
 *     cublaslt_matmul.cpp   what may be multiplied, and the stream's operation
 *     cublaslt_product.cpp  the arithmetic
 *
 * The semi-opaque structs of cublasLt.h hold the structs below. Each begins with its kind, which
 * Destroy clears, so that a descriptor destroyed or never made is refused. What the real library
 * would refuse is refused, with a text on stderr; what it would do and this one can't is
 * CUBLAS_STATUS_NOT_SUPPORTED, and the text says so. */
#ifndef COP_CUBLASLT_PRIVATE_H
#define COP_CUBLASLT_PRIVATE_H

#include <cublasLt.h>
#include <stddef.h>
#include <stdint.h>

struct cublasLtContext {
    uint32_t kind;
};

namespace fake_cublaslt
{

enum : uint32_t {
    KIND_HANDLE = 0x1a7d1e00,
    KIND_MATMUL,
    KIND_LAYOUT,
    KIND_PREFERENCE,
    KIND_ALGO,
};

/* Matrices, bias and workspace have to begin at multiples of this. */
constexpr size_t ALIGNMENT = 16;

struct matmul_desc {
    uint32_t kind;
    int32_t compute_type, scale_type, pointer_mode, transa, transb, transc, fill_mode;
    uint32_t epilogue;
    int32_t bias_type, aux_type, multiprocessors;
    int32_t scale_mode_a, scale_mode_b, scale_mode_c, scale_mode_d, scale_mode_aux, scale_mode_out;
    int8_t fast_accumulation;
    const void *bias;
    int64_t bias_batch_stride, aux_stride, aux_batch_stride, alpha_batch_stride;
    void *aux;
    const void *scale_a, *scale_b, *scale_c, *scale_d, *scale_aux, *scale_out;
    void *amax_d, *amax_aux, *emulation;
};
static_assert(sizeof(matmul_desc) <= sizeof(cublasLtMatmulDescOpaque_t), "no room");

struct layout {
    uint32_t kind, type;
    int32_t order, batch_count;
    uint64_t rows, columns;
    int64_t stride; /* the leading dimension, in elements */
    int64_t batch_stride, plane_offset;
    uint32_t batch_mode;
};
static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "no room");

struct preference {
    uint32_t kind, search_mode;
    uint64_t workspace_bytes, implementations;
    uint32_t reduction_schemes, alignment_a, alignment_b, alignment_c, alignment_d;
    float waves;
};
static_assert(sizeof(preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "no room");

struct algorithm {
    uint32_t kind;
    int32_t id, splits;
    uint32_t tile, reduction, swizzle, option, stages;
    uint16_t inner_shape, cluster_shape;
    uint8_t compute_type, scale_type, type_a, type_b, type_c, type_d;
};
static_assert(sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t), "no room");

/* The struct behind a descriptor; NULL if it is none of that kind. */
template <typename inside, typename opaque> inside *open_as(opaque *descriptor, uint32_t kind)
{
    auto *found = reinterpret_cast<inside *>(descriptor);
    return found && found->kind == kind ? found : nullptr;
}

/* One attribute: where it lies in its struct. */
struct attribute {
    int name;
    size_t offset, size;
};
#define ATTRIBUTE(name, type, member)                      \
    {                                                      \
        name, offsetof(type, member), sizeof(type::member) \
    }

cublasStatus_t set_attribute(const char *what, const attribute *table, size_t count, void *object,
                             int name, const void *value, size_t size);
cublasStatus_t get_attribute(const char *what, const attribute *table, size_t count,
                             const void *object, int name, void *value, size_t size,
                             size_t *written);

/* A text on stderr; returns the status. */
cublasStatus_t refuse(cublasStatus_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* An operand of a product as rows that run along k: row i, element l at
 * data[i * row_stride + l * k_stride]. Strides in elements. */
struct operand {
    const void *data;
    bool bf16; /* or float32 */
    size_t row_stride, k_stride, batch_stride;
};

/* d = alpha * a b + beta * c + bias, `batches` times. c and d are column-major. */
struct product {
    size_t m, n, k, batches;
    operand a, b;     /* m rows, n rows */
    const void *c;    /* read only if beta is not 0; may be d */
    void *d;          /* m x n */
    bool output_bf16; /* c, d and bias; or float32 */
    size_t c_stride, c_batch_stride, d_stride, d_batch_stride;
    const void *bias; /* [m], or NULL */
    size_t bias_batch_stride;
    float alpha, beta;
};

void multiply(const product *p);

/* Checks a problem and says its sizes and strides in *p; pointers, alpha and beta are left NULL and
 * zero. */
cublasStatus_t check_problem(const matmul_desc *matmul, const layout *a, const layout *b,
                             const layout *c, const layout *d, product *p);

/* Bytes of workspace that the algorithm needs, or a refusal if it isn't one for this problem. */
cublasStatus_t check_algorithm(const algorithm *algo, const matmul_desc *matmul, const layout *a,
                               const layout *b, const layout *c, const layout *d, const product *p,
                               size_t *workspace_bytes);

} // namespace fake_cublaslt

#endif
