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

/* X(name, process exit status, what it stands for) */
#define COP_STATUS_LIST(X)                       \
    X(COP_OK, 0, "ok")                           \
    X(COP_ERR_INVALID, 2, "invalid input")       \
    X(COP_ERR_IO, 1, "input/output error")       \
    X(COP_ERR_NO_SPACE, 1, "no space left")      \
    X(COP_ERR_NO_MEMORY, 1, "out of memory")     \
    X(COP_ERR_CORRUPT, 2, "corrupt data")        \
    X(COP_ERR_UNSUPPORTED, 2, "not supported")   \
    X(COP_ERR_DEVICE, 1, "device failure")       \
    X(COP_ERR_TRANSPORT, 1, "transport failure") \
    X(COP_ERR_INTERRUPTED, 130, "interrupted")

typedef enum {
#define COP_STATUS_ENUM(name, exit_status, text) name,
    COP_STATUS_LIST(COP_STATUS_ENUM)
#undef COP_STATUS_ENUM
} cop_status;

enum { COP_ERROR_TEXT = 1024 };

/* Caller's memory; zero-initialise or leave undefined before the call. */
typedef struct {
    cop_status status;
    char text[COP_ERROR_TEXT]; /* one line, no trailing newline */
} cop_error;

/* Fills *err (which may be NULL) and returns `status`, so that it can end a function. */
cop_status cop_fail(cop_error *err, cop_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of an error text already set; returns its status. */
cop_status cop_fail_prefix(cop_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int cop_status_exit(cop_status status);

#endif
