/* Arrival processes against the moments that theory gives them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "workload/arrival.h"

#include <math.h>

enum { GAPS = 100000 };

static const uint64_t seed = 77;

typedef struct {
    double mean, square, square_error; /* mean of gap^2, and the standard error of that */
} moments;

static moments measure(const cop_workload_options *o)
{
    cop_arrivals a;
    double sum = 0, squares = 0, fourths = 0;
    cop_arrivals_init(&a, o);
    for (int i = 0; i < GAPS; i++) {
        double gap_s = cop_arrivals_gap_s(&a), square = gap_s * gap_s;
        assert_true(gap_s >= 0 && isfinite(gap_s));
        sum += gap_s;
        squares += square;
        fourths += square * square;
    }
    moments m = {sum / GAPS, squares / GAPS, 0};
    m.square_error = sqrt((fourths / GAPS - m.square * m.square) / GAPS);
    return m;
}

/* Five standard errors, for the mean and for the mean square. cv2: the squared coefficient of
 * variation that theory says. */
static void assert_moments(const cop_workload_options *o, double cv2)
{
    moments m = measure(o);
    double mean = 1 / o->rate, square = (1 + cv2) * mean * mean;
    if (fabs(m.mean - mean) > 5 * mean * sqrt(cv2 / GAPS) ||
        fabs(m.square - square) > 5 * m.square_error)
        fail_msg("kind %d, rate %g: mean gap %g of %g, mean square %g +- %g of %g", (int)o->arrival,
                 o->rate, m.mean, mean, m.square, m.square_error, square);
}

static void test_poisson_and_gamma(void **state)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    static const double rates[] = {0.01, 3, 5e6}, cvs[] = {0.2, 1, 2, 4};
    for (int r = 0; r < 3; r++) {
        cop_workload_options o = {.seed = seed, .rate = rates[r], .arrival = COP_ARRIVAL_POISSON};
        assert_moments(&o, 1);
        o.arrival = COP_ARRIVAL_GAMMA;
        for (int i = 0; i < 4; i++) {
            o.cv = cvs[i];
            assert_moments(&o, cvs[i] * cvs[i]);
        }
    }
}

/* Kuczura's interrupted Poisson process: with arrivals at rate b while busy, ends of busy periods
 * at rate e, ends of silent ones at rate s, cv^2 = 1 + 2 b e / (e + s)^2. */
static void test_onoff_keeps_the_mean_rate(void **state)
{
    static const double rates[] = {2, 50, 0.01}, on[] = {0.1, 1, 5}, off[] = {0.1, 3, 5};
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < 9; i++) {
            cop_workload_options o = {.seed = seed,
                                      .rate = rates[r],
                                      .arrival = COP_ARRIVAL_ONOFF,
                                      .on_s = on[i / 3],
                                      .off_s = off[i % 3]};
            double e = 1 / o.on_s, s = 1 / o.off_s, b = o.rate * (o.on_s + o.off_s) / o.on_s;
            assert_moments(&o, 1 + 2 * b * e / ((e + s) * (e + s)));
        }
    cop_workload_options o = {.seed = seed, .rate = 4, .arrival = COP_ARRIVAL_ONOFF, .on_s = 2};
    assert_moments(&o, 1); /* never silent: Poisson */
    o.on_s = 1e-6;         /* periods a million times shorter than gaps: Poisson again */
    o.off_s = 1e-6;
    assert_moments(&o, 1);
}

/* The oracle: periods and arrivals stepped through one by one. Compares whole distributions. */
static double stepped_gap_s(cop_rng *rng, double busy, double on_s, double off_s)
{
    double gap_s = 0;
    for (;;) {
        double arrival_s = cop_rng_exponential(rng, 1 / busy);
        double end_s = cop_rng_exponential(rng, on_s);
        if (arrival_s < end_s)
            return gap_s + arrival_s;
        gap_s += end_s + cop_rng_exponential(rng, off_s);
    }
}

static void test_onoff_gaps_as_stepped_through(void **state)
{
    cop_workload_options o = {
        .seed = seed, .rate = 2, .arrival = COP_ARRIVAL_ONOFF, .on_s = 0.5, .off_s = 2};
    enum { EDGES = 7 };
    static const double edges[EDGES] = {0.01, 0.05, 0.1, 0.3, 1, 3, 6};
    double below[EDGES] = {0}, below_stepped[EDGES] = {0};
    cop_arrivals a;
    cop_rng rng;
    cop_arrivals_init(&a, &o);
    cop_rng_init(&rng, seed, 9);
    for (int i = 0; i < GAPS; i++) {
        double gap_s = cop_arrivals_gap_s(&a), stepped = stepped_gap_s(&rng, 10, 0.5, 2);
        for (int e = 0; e < EDGES; e++) {
            below[e] += gap_s < edges[e];
            below_stepped[e] += stepped < edges[e];
        }
    }
    for (int e = 0; e < EDGES; e++) {
        double p = below_stepped[e] / GAPS, error = sqrt(2 * p * (1 - p) / GAPS);
        assert_true(fabs(below[e] / GAPS - p) < 5 * error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_poisson_and_gamma),
        cmocka_unit_test(test_onoff_keeps_the_mean_rate),
        cmocka_unit_test(test_onoff_gaps_as_stepped_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
