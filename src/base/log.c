#include "base/log.h"

#include <stdarg.h>

/* One fprintf a line, so that lines of several ranks do not mix. */
static void line(const cop_log *log, const char *kind, const char *format, va_list args)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    if (log->rank >= 0)
        fprintf(log->out, "coppice[%d]: %s%s\n", log->rank, kind, text);
    else
        fprintf(log->out, "coppice: %s%s\n", kind, text);
}

void cop_log_info(const cop_log *log, const char *format, ...)
{
    if (!log || !log->out || log->quiet)
        return;
    va_list args;
    va_start(args, format);
    line(log, "", format, args);
    va_end(args);
}

void cop_log_warn(const cop_log *log, const char *format, ...)
{
    if (!log || !log->out)
        return;
    va_list args;
    va_start(args, format);
    line(log, "warning: ", format, args);
    va_end(args);
}
