/* Status codes and error texts, also of the public library; base/status.h has what fills them. */
#ifndef COP_BASE_ERROR_H
#define COP_BASE_ERROR_H

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

#endif
