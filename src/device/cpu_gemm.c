/* Activations times packed weights. A task takes some panels and all rows: it walks a panel in
 * blocks of k that stay in L2, and every tile of rows over such a block. The next block is
 * prefetched by the first tiles, a line for every pair of k, so that a batch of a few rows streams
 * from memory while it computes. */
#include "device/cpu.h"

typedef struct {
    cop_device *d;
    const cop_matrix *w;
    const char *a;
    uint32_t rows;
    cop_gemm_end end;
    void *out;
    uint32_t panels_per_unit; /* gate and up go together */
    uint32_t units, units_per_task;
} gemm;

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* sums[rows][64] = a[first row ..][in] * one panel. Int8 weights are unpacked block by block, for
 * one row as for many: the products are the same, and so are the bits. */
static void multiply_panel(const gemm *m, uint32_t panel, uint32_t first, uint32_t rows,
                           cop_scratch *scratch, float *sums, size_t stride)
{
    const cop_kernels *kernels = m->d->kernels;
    const uint32_t in = m->w->in, most = m->w->factors ? COP_INT8_BLOCK : COP_K_BLOCK;
    const size_t column_bytes = COP_PANEL * m->d->weight_bytes;
    const char *block = m->w->panels + (size_t)panel * in * column_bytes;
    for (uint32_t k = 0; k < in; k += most) {
        uint32_t depth = min_u32(most, in - k);
        size_t part = (size_t)depth * 32; /* bytes that one tile prefetches */
        const char *next = block + depth * column_bytes, *ahead = next;
        if (m->w->factors) {
            kernels->unpack(block, depth, scratch->unpacked);
            ahead += part;
        }
        for (uint32_t r = 0, n; r < rows; r += n) {
            n = cop_tile_rows(rows - r);
            cop_tile t = {
                .a = m->a + ((size_t)(first + r) * in + k) * kernels->act_bytes,
                .lda = in,
                .panel = m->w->factors ? scratch->unpacked : block,
                .k = depth,
                .c = sums + r * stride,
                .ldc = stride,
                .accumulate = k > 0,
                .ahead = ahead < next + depth * column_bytes ? ahead : NULL,
            };
            kernels->tile(&t, n);
            ahead += part;
        }
        block = next;
    }
    for (uint32_t r = 0; m->w->factors && r < rows; r++)
        kernels->multiply(sums + r * stride, m->w->factors + panel * COP_PANEL, COP_PANEL);
}

/* Rows of the result lie far apart and each is a miss: they are asked for some rows ahead. */
enum { ROWS_AHEAD = 12 };

static void expect_write(const void *p, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch((const char *)p + at, 1, 3);
}

static void end_add(const gemm *m, uint32_t panel, uint32_t first, uint32_t rows, const float *sums)
{
    const size_t stride = m->w->out;
    float *out = (float *)m->out + first * stride + panel * COP_PANEL;
    for (uint32_t r = 0; r < rows; r++, out += stride) {
        expect_write(out + ROWS_AHEAD * stride, COP_PANEL * sizeof *out);
        m->d->kernels->add(out, sums + r * COP_PANEL, COP_PANEL);
    }
}

static void end_swiglu(const gemm *m, uint32_t unit, uint32_t first, uint32_t rows,
                       const float *sums)
{
    const cop_kernels *kernels = m->d->kernels;
    const size_t act = kernels->act_bytes, stride = m->w->out / 2 * act;
    char *out = (char *)m->out + first * stride + unit * COP_PANEL * act;
    for (uint32_t r = 0; r < rows; r++, out += stride) {
        float y[COP_PANEL];
        const float *gate = sums + r * 2 * COP_PANEL;
        expect_write(out + ROWS_AHEAD * stride, COP_PANEL * act);
        kernels->swiglu(gate, gate + COP_PANEL, y, COP_PANEL);
        kernels->store_act(y, out, COP_PANEL);
    }
}

static void multiply_unit(const gemm *m, uint32_t unit, uint32_t first, uint32_t rows,
                          cop_scratch *s)
{
    float *sums = s->sums;
    if (m->end == COP_GEMM_STORE) {
        float *out = (float *)m->out + (size_t)first * m->w->out + unit * COP_PANEL;
        multiply_panel(m, unit, first, rows, s, out, m->w->out);
    } else if (m->end == COP_GEMM_ADD) {
        multiply_panel(m, unit, first, rows, s, sums, COP_PANEL);
        end_add(m, unit, first, rows, sums);
    } else {
        multiply_panel(m, 2 * unit, first, rows, s, sums, 2 * COP_PANEL);
        multiply_panel(m, 2 * unit + 1, first, rows, s, sums + COP_PANEL, 2 * COP_PANEL);
        end_swiglu(m, unit, first, rows, sums);
    }
}

static void gemm_task(void *ctx, uint32_t task, uint32_t thread)
{
    const gemm *m = ctx;
    uint32_t begin = task * m->units_per_task, end = min_u32(begin + m->units_per_task, m->units);
    for (uint32_t unit = begin; unit < end; unit++)
        for (uint32_t r = 0; r < m->rows; r += COP_ROW_BLOCK)
            multiply_unit(m, unit, r, min_u32(COP_ROW_BLOCK, m->rows - r), &m->d->scratch[thread]);
}

/* Many rows: single units, so that the threads end together. A few: runs of units, as what was
 * prefetched at the end of a task is another thread's. */
static uint32_t units_per_task(uint32_t units, uint32_t rows, uint32_t threads)
{
    enum { MANY_ROWS = 64, TASKS_PER_THREAD = 8 };
    uint32_t n = rows >= MANY_ROWS ? 1 : units / (threads * TASKS_PER_THREAD);
    return n ? n : 1;
}

void cop_cpu_gemm(cop_device *d, const cop_matrix *w, const void *a, uint32_t rows,
                  cop_gemm_end end, void *out)
{
    gemm m = {.d = d, .w = w, .a = a, .rows = rows, .end = end, .out = out};
    m.panels_per_unit = end == COP_GEMM_SWIGLU ? 2 : 1;
    m.units = w->out / COP_PANEL / m.panels_per_unit;
    m.units_per_task = units_per_task(m.units, rows, cop_pool_threads(d->pool));
    cop_pool_for(d->pool, (m.units + m.units_per_task - 1) / m.units_per_task, gemm_task, &m);
}
