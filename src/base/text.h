/* Small helpers on names. */
#ifndef COP_BASE_TEXT_H
#define COP_BASE_TEXT_H

#include <stddef.h>

/* Nearest of `count` names by edit distance, or NULL when none is near; for error messages. The
 * answer is one of `names`. */
const char *cop_nearest(const char *name, const char *const *names, size_t count);

#endif
