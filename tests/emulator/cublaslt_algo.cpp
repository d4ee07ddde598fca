/* Which algorithms the fake cublasLt has for a problem.
 *
 *     id  splits of k  reduction of the parts  workspace
 *      0  1            none                    none
 *      1  2, 4         compute type            the parts, float32
 *      2  2, 4         in place                a counter per 64 x 64 tile of the output
 *
 * They differ in what the library promises of them (workspace, reduction scheme), which is what a
 * caller chooses by. All compute the same bits: see cublaslt_product.cpp. */
#include "cublaslt_private.h"
#include "emulator.h"

#include <new>
#include <string.h>
#include <vector>

using namespace fake_cublaslt;

enum { ALGORITHMS = 3 };

static const uint32_t tiles[] = {CUBLASLT_MATMUL_TILE_128x128, CUBLASLT_MATMUL_TILE_128x64,
                                 CUBLASLT_MATMUL_TILE_64x128, CUBLASLT_MATMUL_TILE_64x64};

static uint32_t reduction_of(int id)
{
    return id == 0   ? CUBLASLT_REDUCTION_SCHEME_NONE
           : id == 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                     : CUBLASLT_REDUCTION_SCHEME_INPLACE;
}

static size_t workspace_of(const algorithm *algo, const product *p)
{
    const size_t tiles_of_output = ((p->m + 63) / 64) * ((p->n + 63) / 64) * p->batches;
    return algo->id == 0   ? 0
           : algo->id == 1 ? p->m * p->n * p->batches * (size_t)algo->splits * sizeof(float)
                           : tiles_of_output * sizeof(int32_t);
}

static bool valid(const algorithm *algo)
{
    if (algo->id < 0 || algo->id >= ALGORITHMS || algo->reduction != reduction_of(algo->id))
        return false;
    return algo->id == 0 ? algo->splits == 1 : algo->splits > 1 && algo->splits <= 32;
}

cublasStatus_t fake_cublaslt::check_algorithm(const algorithm *algo, const matmul_desc *matmul,
                                              const layout *a, const layout *b, const layout *c,
                                              const layout *d, const product *p,
                                              size_t *workspace_bytes)
{
    if (!algo)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "the algorithm was never initialised");
    if (!valid(algo))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                      "algorithm %d with %d splits of k and reduction scheme %u", algo->id,
                      algo->splits, algo->reduction);
    if (algo->compute_type != matmul->compute_type || algo->scale_type != matmul->scale_type ||
        algo->type_a != a->type || algo->type_b != b->type || algo->type_c != c->type ||
        algo->type_d != d->type)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "the algorithm is one for other types");
    *workspace_bytes = workspace_of(algo, p);
    return CUBLAS_STATUS_SUCCESS;
}

static algorithm make(int id, int splits, const matmul_desc *matmul, const layout *a,
                      const layout *b, const layout *c, const layout *d)
{
    algorithm algo = {};
    algo.kind = KIND_ALGO;
    algo.id = id;
    algo.splits = splits;
    algo.reduction = reduction_of(id);
    algo.tile = tiles[0];
    algo.compute_type = (uint8_t)matmul->compute_type;
    algo.scale_type = (uint8_t)matmul->scale_type;
    algo.type_a = (uint8_t)a->type;
    algo.type_b = (uint8_t)b->type;
    algo.type_c = (uint8_t)c->type;
    algo.type_d = (uint8_t)d->type;
    return algo;
}

/* All there are for a problem, the one without splits first. */
static std::vector<algorithm> candidates(const matmul_desc *matmul, const layout *a,
                                         const layout *b, const layout *c, const layout *d)
{
    std::vector<algorithm> all;
    for (int id = 0; id < ALGORITHMS; id++)
        for (int splits = id ? 2 : 1; splits <= (id ? 4 : 1); splits *= 2)
            for (uint32_t tile : tiles) {
                all.push_back(make(id, splits, matmul, a, b, c, d));
                all.back().tile = tile;
            }
    return all;
}

static void fill(cublasLtMatmulHeuristicResult_t *result, const algorithm *algo, size_t workspace)
{
    *result = {};
    memcpy(&result->algo, algo, sizeof *algo);
    result->workspaceSize = workspace;
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1.0f;
}

static cublasStatus_t check_preference(const preference *wanted)
{
    if (!wanted)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatmulAlgoGetHeuristic: no preference");
    if (wanted->search_mode != CUBLASLT_SEARCH_BEST_FIT)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the emulator searches the best fit only");
    if (wanted->alignment_a < ALIGNMENT || wanted->alignment_b < ALIGNMENT ||
        wanted->alignment_c < ALIGNMENT || wanted->alignment_d < ALIGNMENT)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                      "matrices aligned to less than %zu bytes: the emulator has no such algorithm",
                      ALIGNMENT);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                               cublasLtMatrixLayout_t layout_a, cublasLtMatrixLayout_t layout_b,
                               cublasLtMatrixLayout_t layout_c, cublasLtMatrixLayout_t layout_d,
                               cublasLtMatmulPreference_t preferences, int asked,
                               cublasLtMatmulHeuristicResult_t results[], int *returned)
{
    if (!handle || handle->kind != KIND_HANDLE)
        return refuse(CUBLAS_STATUS_NOT_INITIALIZED,
                      "cublasLtMatmulAlgoGetHeuristic: not a handle");
    if (asked <= 0 || !results || !returned)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "cublasLtMatmulAlgoGetHeuristic: room for %d results", asked);
    *returned = 0;
    if (emulator_fails("cublasLtMatmulAlgoGetHeuristic"))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const auto *wanted = open_as<preference>(preferences, KIND_PREFERENCE);
    const auto *matmul = open_as<matmul_desc>(operation, KIND_MATMUL);
    const auto *a = open_as<layout>(layout_a, KIND_LAYOUT);
    const auto *b = open_as<layout>(layout_b, KIND_LAYOUT);
    const auto *c = open_as<layout>(layout_c, KIND_LAYOUT);
    const auto *d = open_as<layout>(layout_d, KIND_LAYOUT);
    product p;
    cublasStatus_t status = check_problem(matmul, a, b, c, d, &p);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_preference(wanted);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    for (const algorithm &algo : candidates(matmul, a, b, c, d)) {
        const size_t workspace = workspace_of(&algo, &p);
        const bool allowed = algo.reduction == CUBLASLT_REDUCTION_SCHEME_NONE ||
                             (algo.reduction & wanted->reduction_schemes);
        if (*returned < asked && allowed && workspace <= wanted->workspace_bytes)
            fill(&results[(*returned)++], &algo, workspace);
    }
    return CUBLAS_STATUS_SUCCESS; /* there is always the one without splits */
}

cublasStatus_t
cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                        cublasLtMatrixLayout_t layout_a, cublasLtMatrixLayout_t layout_b,
                        cublasLtMatrixLayout_t layout_c, cublasLtMatrixLayout_t layout_d,
                        const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
    if (!handle || handle->kind != KIND_HANDLE || !result)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatmulAlgoCheck: no %s",
                      result ? "handle" : "place for the result");
    const auto *matmul = open_as<matmul_desc>(operation, KIND_MATMUL);
    const auto *a = open_as<layout>(layout_a, KIND_LAYOUT);
    const auto *b = open_as<layout>(layout_b, KIND_LAYOUT);
    const auto *c = open_as<layout>(layout_c, KIND_LAYOUT);
    const auto *d = open_as<layout>(layout_d, KIND_LAYOUT);
    product p;
    cublasStatus_t status = check_problem(matmul, a, b, c, d, &p);
    size_t workspace = 0;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_algorithm(open_as<const algorithm>(algo, KIND_ALGO), matmul, a, b, c, d, &p,
                                 &workspace);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    result->workspaceSize = workspace;
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1.0f;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the lower level -------------------------------------------------------------------- */

cublasStatus_t cublasLtMatmulAlgoGetIds(cublasLtHandle_t handle, cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type, cudaDataType_t type_a,
                                        cudaDataType_t type_b, cudaDataType_t type_c,
                                        cudaDataType_t type_d, int asked, int ids[], int *returned)
{
    (void)compute_type, (void)scale_type;
    (void)type_a, (void)type_b, (void)type_c, (void)type_d;
    if (!handle || handle->kind != KIND_HANDLE || asked <= 0 || !ids || !returned)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatmulAlgoGetIds: room for %d", asked);
    *returned = asked < ALGORITHMS ? asked : ALGORITHMS;
    for (int i = 0; i < *returned; i++)
        ids[i] = i;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t handle, cublasComputeType_t compute_type,
                                      cudaDataType_t scale_type, cudaDataType_t type_a,
                                      cudaDataType_t type_b, cudaDataType_t type_c,
                                      cudaDataType_t type_d, int id, cublasLtMatmulAlgo_t *algo)
{
    if (!handle || handle->kind != KIND_HANDLE || !algo || id < 0 || id >= ALGORITHMS)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "cublasLtMatmulAlgoInit: algorithm %d", id);
    matmul_desc matmul = {};
    matmul.compute_type = compute_type;
    matmul.scale_type = scale_type;
    layout a = {}, b = {}, c = {}, d = {};
    a.type = type_a;
    b.type = type_b;
    c.type = type_c;
    d.type = type_d;
    const algorithm made = make(id, id ? 2 : 1, &matmul, &a, &b, &c, &d);
    *algo = {};
    memcpy(algo, &made, sizeof made);
    return CUBLAS_STATUS_SUCCESS;
}

static const attribute config_attributes[] = {
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_ID, algorithm, id),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_TILE_ID, algorithm, tile),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, algorithm, splits),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, algorithm, reduction),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, algorithm, swizzle),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, algorithm, option),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_STAGES_ID, algorithm, stages),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, algorithm, inner_shape),
    ATTRIBUTE(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, algorithm, cluster_shape),
};

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t name,
                                                    const void *value, size_t size)
{
    if (name == CUBLASLT_ALGO_CONFIG_ID)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "an algorithm's id can't be set");
    return set_attribute("cublasLtMatmulAlgoConfigSetAttribute", config_attributes,
                         sizeof config_attributes / sizeof *config_attributes,
                         open_as<algorithm>(algo, KIND_ALGO), name, value, size);
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t name,
                                                    void *value, size_t size, size_t *written)
{
    return get_attribute("cublasLtMatmulAlgoConfigGetAttribute", config_attributes,
                         sizeof config_attributes / sizeof *config_attributes,
                         open_as<const algorithm>(algo, KIND_ALGO), name, value, size, written);
}

namespace
{
struct abilities {
    int32_t splits, batches, out_of_place, triangles, option_max, custom_order, negative_strides;
    int32_t pointer_arrays;
    uint32_t reductions, swizzle, pointer_modes, epilogues, alignment, stages;
    uint32_t tiles[sizeof ::tiles / sizeof *::tiles];
    uint64_t implementation;
};
} // namespace

static const attribute ability_attributes[] = {
    ATTRIBUTE(CUBLASLT_ALGO_CAP_SPLITK_SUPPORT, abilities, splits),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK, abilities, reductions),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT, abilities, swizzle),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_STRIDED_BATCH_SUPPORT, abilities, batches),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT, abilities, out_of_place),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_UPLO_SUPPORT, abilities, triangles),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_TILE_IDS, abilities, tiles),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX, abilities, option_max),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_CUSTOM_MEMORY_ORDER, abilities, custom_order),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_POINTER_MODE_MASK, abilities, pointer_modes),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_EPILOGUE_MASK, abilities, epilogues),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_STAGES_IDS, abilities, stages),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_LD_NEGATIVE, abilities, negative_strides),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, abilities, implementation),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES, abilities, alignment),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES, abilities, alignment),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES, abilities, alignment),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES, abilities, alignment),
    ATTRIBUTE(CUBLASLT_ALGO_CAP_POINTER_ARRAY_BATCH_SUPPORT, abilities, pointer_arrays),
};

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                 cublasLtMatmulAlgoCapAttributes_t name,
                                                 void *value, size_t size, size_t *written)
{
    const auto *chosen = open_as<const algorithm>(algo, KIND_ALGO);
    abilities can = {};
    can.batches = can.out_of_place = 1;
    can.pointer_modes = CUBLASLT_POINTER_MODE_MASK_HOST;
    can.epilogues = CUBLASLT_EPILOGUE_DEFAULT | CUBLASLT_EPILOGUE_BIAS;
    can.alignment = ALIGNMENT;
    memcpy(can.tiles, tiles, sizeof tiles);
    can.implementation = CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA |
                         CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
                         CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF;
    if (chosen) {
        can.splits = chosen->id != 0;
        can.reductions = reduction_of(chosen->id);
    }
    return get_attribute("cublasLtMatmulAlgoCapGetAttribute", ability_attributes,
                         sizeof ability_attributes / sizeof *ability_attributes,
                         chosen ? &can : nullptr, name, value, size, written);
}
