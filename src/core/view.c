#include "core/view.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static cop_report *at(const cop_view *view, size_t i)
{
    return &view->reports[(view->head + i) % view->capacity];
}

void cop_view_fini(cop_view *view)
{
    for (size_t i = 0; i < view->count; i++)
        free(at(view, i)->hashes);
    free(view->reports);
}

static void grow(cop_view *view)
{
    size_t capacity = view->capacity ? view->capacity * 2 : 16;
    cop_report *reports = cop_malloc(capacity * sizeof *reports);
    for (size_t i = 0; i < view->count; i++)
        reports[i] = *at(view, i);
    free(view->reports);
    view->reports = reports;
    view->capacity = capacity;
    view->head = 0;
}

void cop_view_put(cop_view *view, const cop_report *report)
{
    COP_CHECK(view->count == 0 || at(view, view->count - 1)->due_ns <= report->due_ns);
    if (view->count == view->capacity)
        grow(view);
    cop_report *kept = at(view, view->count++);
    *kept = *report;
    kept->hashes = cop_malloc(report->count * sizeof *report->hashes);
    memcpy(kept->hashes, report->hashes, report->count * sizeof *report->hashes);
}

bool cop_view_take(cop_view *view, int64_t now_ns, cop_report *out)
{
    if (view->count == 0 || at(view, 0)->due_ns > now_ns)
        return false;
    *out = *at(view, 0);
    view->head = (view->head + 1) % view->capacity;
    view->count--;
    return true;
}

void cop_view_check(const cop_view *view)
{
    COP_CHECK(view->count <= view->capacity);
    for (size_t i = 1; i < view->count; i++)
        COP_CHECK(at(view, i - 1)->due_ns <= at(view, i)->due_ns);
}
