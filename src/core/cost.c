#include "core/cost.h"

#include "base/check.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

double cop_cost_pairs(uint64_t start, uint64_t count)
{
    return (double)count * (double)start + (double)count * ((double)count + 1) / 2;
}

double cop_cost_prefill_ns(const cop_cost *cost, uint64_t prompt, uint64_t cached)
{
    COP_CHECK(cached <= prompt);
    uint64_t count = prompt - cached;
    uint64_t chunk = cost->chunk_tokens ? cost->chunk_tokens : count;
    uint64_t steps = count ? (count + chunk - 1) / chunk : 0;
    return cost->step_ns * (double)steps + cost->per_token_ns * (double)count +
           cost->per_pair_ns * cop_cost_pairs(cached, count);
}

double cop_cost_transfer_ns(const cop_cost *cost, uint64_t blocks)
{
    return cost->link_alpha_ns + cost->link_beta_ns * cost->block_bytes * (double)blocks;
}

/* ---- fit: normal equations of the columns {1, tokens, pairs}, each scaled to a maximum of 1 ----
 */

enum { COLUMNS = 3 };

typedef struct {
    double a[COLUMNS][COLUMNS], b[COLUMNS], scale[COLUMNS];
} normal;

static double largest(const double *values, uint32_t n)
{
    double top = 0;
    for (uint32_t i = 0; i < n; i++)
        top = fmax(top, values[i]);
    return top > 0 ? top : 1;
}

static void gather(normal *eq, const double *tokens, const double *pairs, const double *ns,
                   uint32_t n)
{
    *eq = (normal){.scale = {1, largest(tokens, n), largest(pairs, n)}};
    for (uint32_t s = 0; s < n; s++) {
        double x[COLUMNS] = {1, tokens[s] / eq->scale[1], pairs[s] / eq->scale[2]};
        for (int i = 0; i < COLUMNS; i++) {
            eq->b[i] += x[i] * ns[s];
            for (int j = 0; j < COLUMNS; j++)
                eq->a[i][j] += x[i] * x[j];
        }
    }
}

/* Gauss-Jordan over the free columns, the largest pivot first. A column that the others explain
 * already (all samples of one size, say) gets 0, as nothing can be learnt about it. */
static void solve(const normal *eq, const bool *is_free, double *x)
{
    normal m = *eq;
    int pivot_row[COLUMNS];
    bool used[COLUMNS] = {false};
    for (int k = 0; k < COLUMNS; k++) {
        x[k] = 0;
        pivot_row[k] = -1;
    }
    for (;;) {
        int p = -1;
        for (int i = 0; i < COLUMNS; i++)
            if (is_free[i] && !used[i] && (p < 0 || m.a[i][i] > m.a[p][p]))
                p = i;
        if (p < 0 || m.a[p][p] <= 1e-12 * fmax(eq->a[p][p], 1e-300))
            break;
        used[p] = true;
        pivot_row[p] = p;
        for (int i = 0; i < COLUMNS; i++) {
            if (i == p || !is_free[i])
                continue;
            double f = m.a[i][p] / m.a[p][p];
            for (int j = 0; j < COLUMNS; j++)
                m.a[i][j] -= f * m.a[p][j];
            m.b[i] -= f * m.b[p];
        }
    }
    for (int i = 0; i < COLUMNS; i++)
        if (pivot_row[i] >= 0)
            x[i] = m.b[i] / m.a[i][i];
}

void cop_cost_fit(cop_cost *cost, const double *tokens, const double *pairs, const double *ns,
                  uint32_t n)
{
    COP_CHECK(n >= COLUMNS);
    normal eq;
    gather(&eq, tokens, pairs, ns, n);
    bool is_free[COLUMNS] = {true, true, true};
    double x[COLUMNS];
    for (;;) {
        solve(&eq, is_free, x);
        int worst = 0;
        for (int i = 1; i < COLUMNS; i++)
            if (x[i] < x[worst])
                worst = i;
        if (x[worst] >= 0)
            break;
        is_free[worst] = false;
    }
    cost->step_ns = x[0] / eq.scale[0];
    cost->per_token_ns = x[1] / eq.scale[1];
    cost->per_pair_ns = x[2] / eq.scale[2];
}
