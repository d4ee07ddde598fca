/* Text for people: which known name was meant by an unknown one. */
#ifndef COP_BASE_TEXT_H
#define COP_BASE_TEXT_H

#include "base/status.h"

#include <stddef.h>

/* Nearest of `count` names by edit distance, or NULL when none is near; for error messages.
 * Near: at most a third of the letters (one at least) inserted, left out, replaced or swapped with
 * their neighbour, capitals being free; or `name` is how the other begins, three letters or more.
 * Of equally near names the first is taken. */
const char *cop_nearest(const char *name, const char *const *names, size_t count);

/* COP_ERR_INVALID: "WHAT 'NAME'; did you mean 'lru'? (lru, fifo, lfu)", the question only when a
 * name is near. `what` is the key and the kind: "cache.eviction: unknown policy". */
cop_status cop_unknown_name(cop_error *err, const char *what, const char *name,
                            const char *const *names, size_t count);

/* Place of `name` among names[count], in *index; cop_unknown_name if it is not there. */
cop_status cop_find_name(const char *name, const char *const *names, size_t count, const char *what,
                         size_t *index, cop_error *err);

#endif
