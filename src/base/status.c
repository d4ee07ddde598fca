#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names quoted from files may hold any character; an error is one line all the same. */
static void make_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

cop_status cop_fail(cop_error *err, cop_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        make_one_line(err->text);
        err->status = status;
    }
    return status;
}

cop_status cop_fail_prefix(cop_error *err, const char *format, ...)
{
    char prefix[COP_ERROR_TEXT], text[COP_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    make_one_line(prefix);
    memcpy(text, err->text, sizeof text);
    snprintf(err->text, sizeof err->text, "%.500s: %.500s", prefix, text);
    return err->status;
}

int cop_status_exit(cop_status status)
{
    switch (status) {
#define COP_STATUS_CASE(name, exit_status, text) \
    case name:                                   \
        return exit_status;
        COP_STATUS_LIST(COP_STATUS_CASE)
#undef COP_STATUS_CASE
    }
    return 1;
}
