/* Status codes and error text.
 *
 * Every fallible function returns a cop_status and takes a cop_error to describe the failure. The
 * function that decides what the error is writes its text, once; callers only pass it up. Outputs
 * are set only on success. Nothing in the library prints errors or exits: main.c does.
 *
 *     return cop_fail(err, COP_ERR_INVALID, "%s:%d: unknown key '%s'", file, line, key);
 */
#ifndef COP_BASE_STATUS_H
#define COP_BASE_STATUS_H

#include "base/error.h"

/* Fills *err (which may be NULL) and returns `status`, so that it can end a function. */
cop_status cop_fail(cop_error *err, cop_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of an error text already set; returns its status. */
cop_status cop_fail_prefix(cop_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int cop_status_exit(cop_status status);

#endif
