#include "base/text.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Longer names are never near: the rows below live on the stack. */
enum { LONGEST_NAME = 63 };

static unsigned min_unsigned(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: insertion, deletion, substitution, swap of neighbours, each costs 1.
 * Three rows of the table at a time; row[0] is the current one. */
static unsigned edit_distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    unsigned rows[3][LONGEST_NAME + 1];
    unsigned *row[3] = {rows[0], rows[1], rows[2]};
    for (size_t j = 0; j <= b_size; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_size; i++) {
        unsigned *oldest = row[2];
        row[2] = row[1];
        row[1] = row[0];
        row[0] = oldest;
        row[0][0] = (unsigned)i;
        int x = tolower((unsigned char)a[i - 1]);
        for (size_t j = 1; j <= b_size; j++) {
            int y = tolower((unsigned char)b[j - 1]);
            unsigned best = min_unsigned(row[1][j], row[0][j - 1]) + 1;
            best = min_unsigned(best, row[1][j - 1] + (x != y));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]))
                best = min_unsigned(best, row[2][j - 2] + 1);
            row[0][j] = best;
        }
    }
    return row[0][b_size];
}

const char *cop_nearest(const char *name, const char *const *names, size_t count)
{
    size_t size = strlen(name);
    if (size == 0 || size > LONGEST_NAME)
        return NULL;
    unsigned near = size < 6 ? 1 : (unsigned)(size / 3);
    unsigned best = near + 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(names[i]);
        if (other > LONGEST_NAME)
            continue;
        unsigned distance = edit_distance(name, size, names[i], other);
        if (distance > 1 && size >= 3 && other > size && strncasecmp(name, names[i], size) == 0)
            distance = 1;
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

cop_status cop_unknown_name(cop_error *err, const char *what, const char *name,
                            const char *const *names, size_t count)
{
    char list[COP_ERROR_TEXT / 2] = "";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = cop_nearest(name, names, count);
    return cop_fail(err, COP_ERR_INVALID, "%s '%s'%s%s%s (%s)", what, name,
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", list);
}

cop_status cop_find_name(const char *name, const char *const *names, size_t count, const char *what,
                         size_t *index, cop_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            *index = i;
            return COP_OK;
        }
    }
    return cop_unknown_name(err, what, name, names, count);
}
