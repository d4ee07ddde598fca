#include "base/text.h"

#include <string.h>

enum { NAME_MAX_LENGTH = 128 }; /* longer names are compared by their beginning */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's distance, one row of the table at a time. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_LENGTH + 1];
    size_t n = strnlen(a, NAME_MAX_LENGTH), m = strnlen(b, NAME_MAX_LENGTH);
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[m];
}

const char *cop_nearest(const char *name, const char *const *names, size_t count)
{
    const char *best = NULL;
    /* from this distance on it is another word, not a slip */
    size_t best_distance = strnlen(name, NAME_MAX_LENGTH) / 3 + 2;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(name, names[i]);
        if (distance < best_distance) {
            best_distance = distance;
            best = names[i];
        }
    }
    return best;
}
