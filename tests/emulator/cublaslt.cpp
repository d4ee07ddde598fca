/* The fake cublasLt: handle, descriptors, attributes and texts. See cublaslt_private.h. */
#include "cublaslt_private.h"
#include "emulator.h"

#include <new>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

using namespace fake_cublaslt;

cublasStatus_t fake_cublaslt::refuse(cublasStatus_t status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "cublasLt (emulated): %s: ", cublasLtGetStatusName(status));
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return status;
}

/* ---- handle and texts ------------------------------------------------------------------- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    if (!handle)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtCreate: no place for the handle");
    if (emulator_fails("cublasLtCreate"))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasLtContext{KIND_HANDLE};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    if (!handle || handle->kind != KIND_HANDLE)
        return refuse(CUBLAS_STATUS_NOT_INITIALIZED, "cublasLtDestroy: not a handle");
    handle->kind = 0;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

size_t cublasLtGetCudartVersion(void)
{
    return CUDART_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
#define NAME(status) \
    case status:     \
        return #status
        NAME(CUBLAS_STATUS_SUCCESS);
        NAME(CUBLAS_STATUS_NOT_INITIALIZED);
        NAME(CUBLAS_STATUS_ALLOC_FAILED);
        NAME(CUBLAS_STATUS_INVALID_VALUE);
        NAME(CUBLAS_STATUS_ARCH_MISMATCH);
        NAME(CUBLAS_STATUS_MAPPING_ERROR);
        NAME(CUBLAS_STATUS_EXECUTION_FAILED);
        NAME(CUBLAS_STATUS_INTERNAL_ERROR);
        NAME(CUBLAS_STATUS_NOT_SUPPORTED);
        NAME(CUBLAS_STATUS_LICENSE_ERROR);
#undef NAME
    }
    return "CUBLAS_STATUS_UNKNOWN";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "an invalid value was used as an argument";
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return "an absent device architectural feature is required";
    case CUBLAS_STATUS_MAPPING_ERROR:
        return "an access to GPU memory space failed";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "the program failed to execute";
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return "an internal operation failed";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "the functionality is not supported";
    case CUBLAS_STATUS_LICENSE_ERROR:
        return "an error occurred when checking the license";
    }
    return "<unknown>";
}

/* ---- attributes ------------------------------------------------------------------------- */

static const attribute *find(const attribute *table, size_t count, int name)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].name == name)
            return &table[i];
    return nullptr;
}

cublasStatus_t fake_cublaslt::set_attribute(const char *what, const attribute *table, size_t count,
                                            void *object, int name, const void *value, size_t size)
{
    const attribute *a = find(table, count, name);
    if (!object || !a || !value)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: %s", what,
                      !object ? "not such a descriptor"
                      : !a    ? "no such attribute"
                              : "no value");
    if (size != a->size)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: attribute %d has %zu bytes, not %zu", what,
                      name, a->size, size);
    memcpy(static_cast<char *>(object) + a->offset, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t fake_cublaslt::get_attribute(const char *what, const attribute *table, size_t count,
                                            const void *object, int name, void *value, size_t size,
                                            size_t *written)
{
    const attribute *a = find(table, count, name);
    if (!object || !a)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: %s", what,
                      !object ? "not such a descriptor" : "no such attribute");
    if (size == 0 && written) {
        *written = a->size;
        return CUBLAS_STATUS_SUCCESS;
    }
    if (size != a->size || !value)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: attribute %d has %zu bytes, not %zu", what,
                      name, a->size, size);
    memcpy(value, static_cast<const char *>(object) + a->offset, size);
    if (written)
        *written = size;
    return CUBLAS_STATUS_SUCCESS;
}

/* Allocates the opaque struct, zeroed. */
template <typename opaque> static opaque *allocate()
{
    return new (std::nothrow) opaque();
}

template <typename inside, typename opaque>
static cublasStatus_t destroy(const char *what, opaque *descriptor, uint32_t kind)
{
    inside *d = open_as<inside>(descriptor, kind);
    if (!d)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: not such a descriptor", what);
    d->kind = 0;
    delete descriptor;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the operation ---------------------------------------------------------------------- */

static const attribute matmul_attributes[] = {
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, matmul_desc, compute_type),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_SCALE_TYPE, matmul_desc, scale_type),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_POINTER_MODE, matmul_desc, pointer_mode),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_TRANSA, matmul_desc, transa),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_TRANSB, matmul_desc, transb),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_TRANSC, matmul_desc, transc),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_FILL_MODE, matmul_desc, fill_mode),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE, matmul_desc, epilogue),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_BIAS_POINTER, matmul_desc, bias),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, matmul_desc, bias_batch_stride),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, matmul_desc, aux),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, matmul_desc, aux_stride),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, matmul_desc, aux_batch_stride),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, matmul_desc, alpha_batch_stride),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, matmul_desc, multiprocessors),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, matmul_desc, scale_a),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, matmul_desc, scale_b),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, matmul_desc, scale_c),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, matmul_desc, scale_d),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, matmul_desc, amax_d),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, matmul_desc, aux_type),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER, matmul_desc, scale_aux),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, matmul_desc, amax_aux),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_FAST_ACCUM, matmul_desc, fast_accumulation),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, matmul_desc, bias_type),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, matmul_desc, scale_mode_a),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, matmul_desc, scale_mode_b),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_C_SCALE_MODE, matmul_desc, scale_mode_c),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_D_SCALE_MODE, matmul_desc, scale_mode_d),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_MODE, matmul_desc, scale_mode_aux),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_POINTER, matmul_desc, scale_out),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_MODE, matmul_desc, scale_mode_out),
    ATTRIBUTE(CUBLASLT_MATMUL_DESC_EMULATION_DESCRIPTOR, matmul_desc, emulation),
};

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t descriptor, size_t size,
                                               cublasComputeType_t compute_type,
                                               cudaDataType_t scale_type)
{
    if (!descriptor || size < sizeof *descriptor)
        return CUBLAS_STATUS_ALLOC_FAILED;
    auto *d = new (descriptor) matmul_desc();
    d->kind = KIND_MATMUL;
    d->compute_type = compute_type;
    d->scale_type = scale_type;
    d->transa = d->transb = d->transc = CUBLAS_OP_N;
    d->fill_mode = CUBLAS_FILL_MODE_FULL;
    d->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    d->bias_type = d->aux_type = -1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *descriptor,
                                        cublasComputeType_t compute_type, cudaDataType_t scale_type)
{
    if (!descriptor)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatmulDescCreate: no place for it");
    *descriptor = allocate<cublasLtMatmulDescOpaque_t>();
    return cublasLtMatmulDescInit(*descriptor, compute_type, scale_type);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t descriptor)
{
    return destroy<matmul_desc>("cublasLtMatmulDescDestroy", descriptor, KIND_MATMUL);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t size)
{
    return set_attribute("cublasLtMatmulDescSetAttribute", matmul_attributes,
                         sizeof matmul_attributes / sizeof *matmul_attributes,
                         open_as<matmul_desc>(descriptor, KIND_MATMUL), name, value, size);
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatmulDescAttributes_t name, void *value,
                                              size_t size, size_t *written)
{
    return get_attribute("cublasLtMatmulDescGetAttribute", matmul_attributes,
                         sizeof matmul_attributes / sizeof *matmul_attributes,
                         open_as<matmul_desc>(descriptor, KIND_MATMUL), name, value, size, written);
}

/* ---- matrices --------------------------------------------------------------------------- */

static const attribute layout_attributes[] = {
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_TYPE, layout, type),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_ORDER, layout, order),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_ROWS, layout, rows),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_COLS, layout, columns),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_LD, layout, stride),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, layout, batch_count),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, layout, batch_stride),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, layout, plane_offset),
    ATTRIBUTE(CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, layout, batch_mode),
};

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t descriptor, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t stride)
{
    if (!descriptor || size < sizeof *descriptor)
        return CUBLAS_STATUS_ALLOC_FAILED;
    auto *l = new (descriptor) layout();
    l->kind = KIND_LAYOUT;
    l->type = type;
    l->rows = rows;
    l->columns = columns;
    l->stride = stride;
    l->batch_count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *descriptor, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride)
{
    if (!descriptor)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatrixLayoutCreate: no place for it");
    *descriptor = allocate<cublasLtMatrixLayoutOpaque_t>();
    return cublasLtMatrixLayoutInit(*descriptor, type, rows, columns, stride);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t descriptor)
{
    return destroy<layout>("cublasLtMatrixLayoutDestroy", descriptor, KIND_LAYOUT);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t descriptor,
                                                cublasLtMatrixLayoutAttribute_t name,
                                                const void *value, size_t size)
{
    return set_attribute("cublasLtMatrixLayoutSetAttribute", layout_attributes,
                         sizeof layout_attributes / sizeof *layout_attributes,
                         open_as<layout>(descriptor, KIND_LAYOUT), name, value, size);
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t descriptor,
                                                cublasLtMatrixLayoutAttribute_t name, void *value,
                                                size_t size, size_t *written)
{
    return get_attribute("cublasLtMatrixLayoutGetAttribute", layout_attributes,
                         sizeof layout_attributes / sizeof *layout_attributes,
                         open_as<layout>(descriptor, KIND_LAYOUT), name, value, size, written);
}

/* ---- preferences ------------------------------------------------------------------------ */

static const attribute preference_attributes[] = {
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_SEARCH_MODE, preference, search_mode),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, preference, workspace_bytes),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, preference, reduction_schemes),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, preference, alignment_a),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, preference, alignment_b),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, preference, alignment_c),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, preference, alignment_d),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, preference, waves),
    ATTRIBUTE(CUBLASLT_MATMUL_PREF_IMPL_MASK, preference, implementations),
};

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t descriptor,
                                                     size_t size)
{
    if (!descriptor || size < sizeof *descriptor)
        return CUBLAS_STATUS_ALLOC_FAILED;
    auto *p = new (descriptor) preference();
    p->kind = KIND_PREFERENCE;
    p->search_mode = CUBLASLT_SEARCH_BEST_FIT;
    p->reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
    p->alignment_a = p->alignment_b = p->alignment_c = p->alignment_d = 256;
    p->implementations = UINT64_MAX;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *descriptor)
{
    if (!descriptor)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "cublasLtMatmulPreferenceCreate: no place for it");
    *descriptor = allocate<cublasLtMatmulPreferenceOpaque_t>();
    return cublasLtMatmulPreferenceInit(*descriptor);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t descriptor)
{
    return destroy<preference>("cublasLtMatmulPreferenceDestroy", descriptor, KIND_PREFERENCE);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t descriptor,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t size)
{
    return set_attribute("cublasLtMatmulPreferenceSetAttribute", preference_attributes,
                         sizeof preference_attributes / sizeof *preference_attributes,
                         open_as<preference>(descriptor, KIND_PREFERENCE), name, value, size);
}

cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t descriptor,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    void *value, size_t size, size_t *written)
{
    return get_attribute("cublasLtMatmulPreferenceGetAttribute", preference_attributes,
                         sizeof preference_attributes / sizeof *preference_attributes,
                         open_as<preference>(descriptor, KIND_PREFERENCE), name, value, size,
                         written);
}
