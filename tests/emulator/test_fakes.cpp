/* The fake cublasLt against a product in double precision, and what it refuses; then the tests of
 * the fake NCCL (test_fakes_nccl.cpp). */
#include "test_fakes.h"
#include "emulator.h"

#include <cublasLt.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#define CUDA_OK(call) assert_int_equal(call, cudaSuccess)
#define OK(call)      assert_int_equal(call, CUBLAS_STATUS_SUCCESS)

static uint64_t random_state = 20240607;

/* splitmix64 */
static uint64_t random_bits()
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t random_below(size_t bound)
{
    return (size_t)(random_bits() % bound);
}

static float random_value()
{
    return (float)(random_bits() >> 40) / (float)(1 << 23) - 1.0f;
}

/* ---- matrices --------------------------------------------------------------------------- */

/* `batches` column-major matrices in device memory, with room between columns and matrices. */
struct matrix {
    cudaDataType type;
    size_t rows, columns, stride, batch_stride, batches;
    unsigned char *data = NULL; /* device memory, which the host can read here */
    cublasLtMatrixLayout_t layout = NULL;

    matrix(cudaDataType of, size_t height, size_t width, size_t count, size_t padding)
        : type(of), rows(height), columns(width), stride(height + padding),
          batch_stride((stride * width + padding + 7) / 8 * 8), batches(count)
    {
        CUDA_OK(cudaMalloc((void **)&data, batch_stride * batches * bytes()));
        OK(cublasLtMatrixLayoutCreate(&layout, type, rows, columns, (int64_t)stride));
        const int32_t batch_count = (int32_t)batches;
        const int64_t offset = (int64_t)batch_stride;
        OK(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                            &batch_count, sizeof batch_count));
        OK(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &offset, sizeof offset));
    }
    matrix(const matrix &) = delete;
    ~matrix()
    {
        cublasLtMatrixLayoutDestroy(layout);
        cudaFree(data);
    }
    size_t bytes() const
    {
        return type == CUDA_R_16BF ? 2 : 4;
    }
    size_t index(size_t batch, size_t row, size_t column) const
    {
        return batch * batch_stride + column * stride + row;
    }
    double get(size_t i) const
    {
        uint32_t bits = 0;
        memcpy((char *)&bits + (4 - bytes()), data + i * bytes(), bytes());
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    /* Cut to the type, not rounded: any value will do. */
    void set(size_t i, float value)
    {
        memcpy(data + i * bytes(), (const char *)&value + (4 - bytes()), bytes());
    }
    void fill()
    {
        for (size_t b = 0; b < batches; b++)
            for (size_t c = 0; c < columns; c++)
                for (size_t r = 0; r < rows; r++)
                    set(index(b, r, c), random_value());
    }
    std::string content() const
    {
        return std::string((const char *)data, batch_stride * batches * bytes());
    }
};

/* Everything that one product needs. */
struct problem {
    size_t m, n, k, batches;
    bool ta, tb, biased;
    float alpha = 1, beta = 0;
    matrix a, b, c, d, bias;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t operation;

    problem(size_t rows, size_t columns, size_t depth, cudaDataType in, cudaDataType out, bool at,
            bool bt, bool with_bias, size_t count, size_t padding)
        : m(rows), n(columns), k(depth), batches(count), ta(at), tb(bt), biased(with_bias),
          a(in, ta ? k : m, ta ? m : k, count, padding),
          b(in, tb ? n : k, tb ? k : n, count, 2 * padding), c(out, m, n, count, padding),
          d(out, m, n, count, 3 * padding), bias(out, m, 1, 1, 0)
    {
        OK(cublasLtCreate(&handle));
        OK(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        const int32_t a_op = ta ? CUBLAS_OP_T : CUBLAS_OP_N, b_op = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
        set(CUBLASLT_MATMUL_DESC_TRANSA, a_op);
        set(CUBLASLT_MATMUL_DESC_TRANSB, b_op);
        if (biased) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE, (uint32_t)CUBLASLT_EPILOGUE_BIAS);
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void *)bias.data);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, (int32_t)out);
        }
        a.fill();
        b.fill();
        c.fill();
        bias.fill();
    }
    ~problem()
    {
        cublasLtMatmulDescDestroy(operation);
        cublasLtDestroy(handle);
    }
    template <typename value> void set(cublasLtMatmulDescAttributes_t name, value v)
    {
        OK(cublasLtMatmulDescSetAttribute(operation, name, &v, sizeof v));
    }
    cublasStatus_t multiply(cudaStream_t stream = NULL, const cublasLtMatmulAlgo_t *algo = NULL,
                            void *workspace = NULL, size_t workspace_bytes = 0)
    {
        return cublasLtMatmul(handle, operation, &alpha, a.data, a.layout, b.data, b.layout, &beta,
                              c.data, c.layout, d.data, d.layout, algo, workspace, workspace_bytes,
                              stream);
    }
    void run()
    {
        OK(multiply());
        CUDA_OK(cudaDeviceSynchronize());
    }
    void check() const;
    void check_one(size_t batch, size_t row, size_t column) const;
};

/* A sum of k products and two more terms in float32, in any order, is off by at most k + 3
 * roundings (2^-24 each) of the sum of magnitudes. Storing it in BF16, with 8 significant bits,
 * adds half a unit in the last of them, 2^-8 of its value. A hundredth more for the roundings of
 * roundings. */
void problem::check_one(size_t batch, size_t row, size_t column) const
{
    double sum = 0, magnitudes = 0;
    for (size_t l = 0; l < k; l++) {
        const double x = a.get(ta ? a.index(batch, l, row) : a.index(batch, row, l));
        const double y = b.get(tb ? b.index(batch, column, l) : b.index(batch, l, column));
        sum += x * y;
        magnitudes += fabs(x * y);
    }
    sum *= alpha;
    magnitudes *= fabs(alpha);
    if (beta != 0) {
        const double before = beta * c.get(c.index(batch, row, column));
        sum += before;
        magnitudes += fabs(before);
    }
    if (biased) {
        sum += bias.get(row);
        magnitudes += fabs(bias.get(row));
    }
    const double stored = d.type == CUDA_R_16BF ? ldexp(fabs(sum), -8) : 0;
    const double bound = 1.01 * (ldexp((double)(k + 3), -24) * magnitudes + stored);
    const double got = d.get(d.index(batch, row, column));
    if (!(fabs(got - sum) <= bound))
        fail_msg("%zu x %zu x %zu, batch %zu, d[%zu][%zu]: %.9g, not %.9g (bound %.3g)", m, n, k,
                 batch, row, column, got, sum, bound);
}

/* Every output; and what lies between columns keeps the 0xff of new device memory. */
void problem::check() const
{
    for (size_t batch = 0; batch < batches; batch++)
        for (size_t column = 0; column < n; column++) {
            for (size_t row = 0; row < m; row++)
                check_one(batch, row, column);
            for (size_t row = m; row < d.stride; row++)
                assert_true(isnan(d.get(d.index(batch, row, column))));
        }
}

/* ---- values ----------------------------------------------------------------------------- */

static void products_are_right(void **)
{
    static const cudaDataType types[3][2] = {
        {CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_16BF, CUDA_R_32F}, {CUDA_R_32F, CUDA_R_32F}};
    for (int i = 0; i < 120; i++) {
        const cudaDataType *type = types[i % 3];
        const bool one_column = random_below(4) == 0;
        problem p(1 + random_below(150), one_column ? 1 : 1 + random_below(40),
                  1 + random_below(200), type[0], type[1], random_bits() & 1, random_bits() & 1,
                  random_bits() & 1, 1 + random_below(3), random_below(3) * 5);
        p.alpha = random_below(3) ? 1.0f : random_value();
        p.beta = random_below(3) ? 0.0f : random_value();
        p.run();
        p.check();
    }
}

static void beta_zero_reads_no_c(void **)
{
    problem p(9, 5, 33, CUDA_R_16BF, CUDA_R_32F, true, false, false, 1, 0);
    memset(p.c.data, 0xff, p.c.content().size());
    p.run();
    p.check();
}

static void rounds_to_nearest_even(void **)
{
    /* 1 + 2^-8 and 1 + 3 2^-8 lie half-way between two BF16 values. */
    problem p(4, 1, 1, CUDA_R_16BF, CUDA_R_16BF, true, false, false, 1, 0);
    const float alphas[] = {1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x1.02p-8f, INFINITY};
    const double expected[] = {1, 1 + 0x4p-8, 1 + 0x2p-8, INFINITY};
    for (size_t row = 0; row < 4; row++)
        p.a.set(p.a.index(0, 0, row), 1);
    p.b.set(0, 1);
    for (int i = 0; i < 4; i++) {
        p.alpha = alphas[i];
        p.run();
        assert_true(p.d.get(0) == expected[i]);
    }
    p.a.set(p.a.index(0, 0, 1), NAN);
    p.run();
    assert_true(isnan(p.d.get(1)) && !isnan(p.d.get(2)));
}

/* The bits of an output depend on its row of A and its column of B, and on nothing else. */
static void bits_never_depend_on_the_batch(void **)
{
    problem whole(130, 37, 203, CUDA_R_16BF, CUDA_R_32F, true, false, false, 1, 0);
    whole.run();
    for (size_t rows : {1, 3, 64, 65})
        for (size_t columns : {1, 2, 5, 36}) {
            const size_t first_row = random_below(130 - rows), first = random_below(37 - columns);
            problem part(rows, columns, 203, CUDA_R_16BF, CUDA_R_32F, rows % 2, columns % 2, false,
                         1, 5);
            for (size_t l = 0; l < 203; l++) {
                for (size_t r = 0; r < rows; r++)
                    part.a.set(part.ta ? part.a.index(0, l, r) : part.a.index(0, r, l),
                               (float)whole.a.get(whole.a.index(0, l, first_row + r)));
                for (size_t c = 0; c < columns; c++)
                    part.b.set(part.tb ? part.b.index(0, c, l) : part.b.index(0, l, c),
                               (float)whole.b.get(whole.b.index(0, l, first + c)));
            }
            part.run();
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < columns; c++)
                    assert_true(part.d.get(part.d.index(0, r, c)) ==
                                whole.d.get(whole.d.index(0, first_row + r, first + c)));
        }
}

/* ---- when ------------------------------------------------------------------------------- */

static void products_wait_for_their_stream(void **)
{
    problem p(16, 4, 32, CUDA_R_16BF, CUDA_R_16BF, true, false, true, 1, 0);
    cudaStream_t stream;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const std::string poison = p.d.content(), weights = p.a.content();
    std::string later = weights;
    memset(p.a.data, 0, weights.size());
    CUDA_OK(cudaMemcpyAsync(p.a.data, later.data(), later.size(), cudaMemcpyHostToDevice, stream));
    OK(p.multiply(stream));
    assert_true(p.d.content() == poison);
    p.alpha = NAN; /* was read by the call */
    CUDA_OK(cudaStreamSynchronize(stream));
    p.alpha = 1;
    p.check();
    CUDA_OK(cudaStreamDestroy(stream));
}

static void products_go_into_graphs(void **)
{
    problem p(16, 4, 32, CUDA_R_16BF, CUDA_R_32F, true, false, false, 1, 0);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t run;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    OK(p.multiply(stream));
    CUDA_OK(cudaStreamEndCapture(stream, &graph));
    CUDA_OK(cudaGraphInstantiate(&run, graph, 0));
    for (int i = 0; i < 3; i++) {
        p.a.fill();
        memset(p.d.data, 0xff, p.d.content().size());
        CUDA_OK(cudaGraphLaunch(run, stream));
        CUDA_OK(cudaStreamSynchronize(stream));
        p.check();
    }
    CUDA_OK(cudaGraphExecDestroy(run));
    CUDA_OK(cudaGraphDestroy(graph));
    CUDA_OK(cudaStreamDestroy(stream));
}

/* ---- algorithms ------------------------------------------------------------------------- */

static int heuristic(problem *p, uint64_t workspace_bytes, uint32_t schemes, int asked,
                     cublasLtMatmulHeuristicResult_t *results)
{
    cublasLtMatmulPreference_t preference;
    int returned = -1;
    OK(cublasLtMatmulPreferenceCreate(&preference));
    OK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                            &workspace_bytes, sizeof workspace_bytes));
    OK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                            &schemes, sizeof schemes));
    OK(cublasLtMatmulAlgoGetHeuristic(p->handle, p->operation, p->a.layout, p->b.layout,
                                      p->c.layout, p->d.layout, preference, asked, results,
                                      &returned));
    OK(cublasLtMatmulPreferenceDestroy(preference));
    return returned;
}

static uint32_t reduction_of(const cublasLtMatmulAlgo_t *algo)
{
    uint32_t scheme;
    size_t written;
    OK(cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                            sizeof scheme, &written));
    assert_int_equal(written, sizeof scheme);
    return scheme;
}

static void heuristic_honours_limits(void **)
{
    problem p(64, 8, 128, CUDA_R_16BF, CUDA_R_16BF, true, false, false, 1, 0);
    cublasLtMatmulHeuristicResult_t results[32];
    assert_int_equal(heuristic(&p, 0, CUBLASLT_REDUCTION_SCHEME_MASK, 1, results), 1);
    assert_int_equal(results[0].workspaceSize, 0);
    for (uint32_t schemes : {0u, 1u, 2u, 7u})
        for (uint64_t bytes : {0u, 8u, 1u << 20}) {
            const int count = heuristic(&p, bytes, schemes, 32, results);
            bool split = false;
            for (int i = 0; i < count; i++) {
                const uint32_t scheme = reduction_of(&results[i].algo);
                assert_int_equal(results[i].state, CUBLAS_STATUS_SUCCESS);
                assert_true(results[i].workspaceSize <= bytes);
                assert_true(scheme == CUBLASLT_REDUCTION_SCHEME_NONE || (scheme & schemes));
                split |= scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
            }
            assert_true(count >= 1);
            assert_int_equal(split, (schemes & 1 && bytes >= 8) || (schemes & 2 && bytes > 8));
        }
}

static void algorithms_agree(void **)
{
    problem p(64, 8, 128, CUDA_R_16BF, CUDA_R_16BF, true, false, false, 1, 0);
    cublasLtMatmulHeuristicResult_t results[32], checked;
    unsigned char *workspace;
    const size_t bytes = 1 << 20;
    CUDA_OK(cudaMalloc((void **)&workspace, bytes));
    p.run();
    const std::string expected = p.d.content();
    const int count = heuristic(&p, bytes, CUBLASLT_REDUCTION_SCHEME_MASK, 32, results);
    for (int i = 0; i < count; i++) {
        const size_t needed = results[i].workspaceSize;
        OK(cublasLtMatmulAlgoCheck(p.handle, p.operation, p.a.layout, p.b.layout, p.c.layout,
                                   p.d.layout, &results[i].algo, &checked));
        assert_int_equal(checked.workspaceSize, needed);
        memset(p.d.data, 0xff, expected.size());
        memset(workspace, 7, bytes);
        OK(p.multiply(NULL, &results[i].algo, workspace, bytes));
        CUDA_OK(cudaDeviceSynchronize());
        assert_true(p.d.content() == expected);
        if (needed) {
            assert_int_equal(workspace[0], 0xff); /* is used, and up to what it asked for */
            assert_int_equal(workspace[needed - 1], 0xff);
            assert_int_equal(p.multiply(NULL, &results[i].algo, workspace, needed - 1),
                             CUBLAS_STATUS_INVALID_VALUE);
        }
        assert_int_equal(workspace[needed], 7);
    }
    CUDA_OK(cudaFree(workspace));
}

static void algorithms_belong_to_types(void **)
{
    problem p(16, 8, 16, CUDA_R_16BF, CUDA_R_16BF, true, false, false, 1, 0);
    problem q(16, 8, 16, CUDA_R_16BF, CUDA_R_32F, true, false, false, 1, 0);
    cublasLtMatmulHeuristicResult_t result;
    assert_int_equal(heuristic(&p, 0, 0, 1, &result), 1);
    assert_int_equal(q.multiply(NULL, &result.algo), CUBLAS_STATUS_INVALID_VALUE);
    const int32_t splits = 4; /* of an algorithm that has no splits */
    OK(cublasLtMatmulAlgoConfigSetAttribute(&result.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits,
                                            sizeof splits));
    assert_int_equal(p.multiply(NULL, &result.algo), CUBLAS_STATUS_NOT_SUPPORTED);
    const cublasLtMatmulAlgo_t never = {};
    assert_int_equal(p.multiply(NULL, &never), CUBLAS_STATUS_INVALID_VALUE);
}

/* ---- refusals --------------------------------------------------------------------------- */

static void refuses_what_cannot_be(void **)
{
    problem p(16, 8, 32, CUDA_R_16BF, CUDA_R_16BF, true, false, true, 1, 0);
    const auto with = [&](void *a, void *b, void *c, void *d) {
        return cublasLtMatmul(p.handle, p.operation, &p.alpha, a, p.a.layout, b, p.b.layout,
                              &p.beta, c, p.c.layout, d, p.d.layout, NULL, NULL, 0, NULL);
    };
    unsigned char *a = p.a.data, *b = p.b.data, *c = p.c.data, *d = p.d.data;
    OK(with(a, b, c, d));
    OK(with(a, b, d, d));
    assert_int_equal(with(NULL, b, c, d), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(with(a, NULL, c, d), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(with(a, b, NULL, d), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(with(a, b, c, NULL), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(with(a + 8, b, c, d), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(with(a, b, c, b), CUBLAS_STATUS_INVALID_VALUE);
    p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void *)NULL);
    assert_int_equal(with(a, b, c, d), CUBLAS_STATUS_INVALID_VALUE);
    p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void *)(p.bias.data + 2));
    assert_int_equal(with(a, b, c, d), CUBLAS_STATUS_INVALID_VALUE);
    p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void *)p.bias.data);
    p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, (int32_t)CUDA_R_32F);
    assert_int_equal(with(a, b, c, d), CUBLAS_STATUS_NOT_SUPPORTED);
    p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, (int32_t)-1);
    OK(with(a, b, c, d));
    p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, (uint32_t)CUBLASLT_EPILOGUE_GELU);
    assert_int_equal(with(a, b, c, d), CUBLAS_STATUS_NOT_SUPPORTED);
    p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, (uint32_t)CUBLASLT_EPILOGUE_DEFAULT);
    p.set(CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)CUBLAS_OP_N);
    assert_int_equal(with(a, b, c, d), CUBLAS_STATUS_INVALID_VALUE);
    p.set(CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)CUBLAS_OP_T);
    CUDA_OK(cudaDeviceSynchronize());
}

static void refuses_layouts(void **)
{
    problem p(16, 8, 32, CUDA_R_16BF, CUDA_R_16BF, true, false, false, 1, 0);
    const auto change = [&](matrix *x, cublasLtMatrixLayoutAttribute_t name, const void *value,
                            size_t size) {
        char before[8];
        size_t written;
        OK(cublasLtMatrixLayoutGetAttribute(x->layout, name, before, size, &written));
        OK(cublasLtMatrixLayoutSetAttribute(x->layout, name, value, size));
        const cublasStatus_t status = p.multiply();
        OK(cublasLtMatrixLayoutSetAttribute(x->layout, name, before, size));
        return status;
    };
    const int64_t stride = 31;
    const uint64_t rows = 0;
    const uint32_t f32 = CUDA_R_32F, f16 = CUDA_R_16F;
    const int32_t row_major = CUBLASLT_ORDER_ROW, two = 2;
    assert_int_equal(change(&p.a, CUBLASLT_MATRIX_LAYOUT_LD, &stride, 8),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(change(&p.b, CUBLASLT_MATRIX_LAYOUT_ROWS, &rows, 8),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(change(&p.a, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &two, 4),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(change(&p.a, CUBLASLT_MATRIX_LAYOUT_TYPE, &f32, 4),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(change(&p.d, CUBLASLT_MATRIX_LAYOUT_TYPE, &f32, 4),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(change(&p.b, CUBLASLT_MATRIX_LAYOUT_TYPE, &f16, 4),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(change(&p.b, CUBLASLT_MATRIX_LAYOUT_ORDER, &row_major, 4),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(
        cublasLtMatrixLayoutSetAttribute(p.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &two, 4),
        CUBLAS_STATUS_INVALID_VALUE); /* a size that is not the attribute's */
    OK(p.multiply());
    CUDA_OK(cudaDeviceSynchronize());
}

static void refuses_without_handles(void **)
{
    problem p(16, 8, 32, CUDA_R_16BF, CUDA_R_16BF, true, false, false, 1, 0);
    cublasLtHandle_t handle = p.handle;
    p.handle = NULL;
    assert_int_equal(p.multiply(), CUBLAS_STATUS_NOT_INITIALIZED);
    p.handle = handle;
    cublasLtMatmulDesc_t operation = p.operation;
    p.operation = (cublasLtMatmulDesc_t)p.a.layout; /* a descriptor of something else */
    assert_int_equal(p.multiply(), CUBLAS_STATUS_INVALID_VALUE);
    p.operation = operation;
    assert_string_equal(cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED),
                        "CUBLAS_STATUS_NOT_SUPPORTED");
    assert_int_equal(cublasLtGetVersion(), CUBLAS_VERSION);
}

int main(void)
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(nccl_exchanges),
        cmocka_unit_test(nccl_all_to_all),
        cmocka_unit_test(nccl_keeps_order),
        cmocka_unit_test(nccl_follows_streams),
        cmocka_unit_test(nccl_sends_without_receives_wait),
        cmocka_unit_test(nccl_sees_death),
        cmocka_unit_test(nccl_lets_peers_leave),
        cmocka_unit_test(nccl_refuses_duplicates),
        cmocka_unit_test(nccl_stalls_on_request),
        cmocka_unit_test(nccl_aborts_on_mismatch),
        cmocka_unit_test(nccl_joins_threads),
        cmocka_unit_test(nccl_without_blocking),
        cmocka_unit_test(nccl_refuses_misuse),
        cmocka_unit_test(nccl_in_graphs),
        cmocka_unit_test(products_are_right),
        cmocka_unit_test(beta_zero_reads_no_c),
        cmocka_unit_test(rounds_to_nearest_even),
        cmocka_unit_test(bits_never_depend_on_the_batch),
        cmocka_unit_test(products_wait_for_their_stream),
        cmocka_unit_test(products_go_into_graphs),
        cmocka_unit_test(heuristic_honours_limits),
        cmocka_unit_test(algorithms_agree),
        cmocka_unit_test(algorithms_belong_to_types),
        cmocka_unit_test(refuses_what_cannot_be),
        cmocka_unit_test(refuses_layouts),
        cmocka_unit_test(refuses_without_handles),
    };
    return cmocka_run_group_tests_name("fakes", tests, NULL, NULL);
}
