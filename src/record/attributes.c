#include "record/attributes.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

const cop_attribute *cop_attributes_find(const cop_attributes *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0)
            return &list->items[i];
    }
    return NULL;
}

static cop_attribute *slot(cop_attributes *list, const char *name, cop_attribute_type type)
{
    cop_attribute *item = (cop_attribute *)cop_attributes_find(list, name);
    if (!item) {
        COP_GROW(list->items, list->capacity, list->count + 1);
        item = &list->items[list->count++];
        *item = (cop_attribute){.name = cop_strdup(name)};
    }
    free(item->text);
    item->text = NULL;
    item->type = type;
    return item;
}

void cop_attributes_text(cop_attributes *list, const char *name, const char *value)
{
    char *copy = cop_strdup(value); /* first: `value` may be the text that it replaces */
    slot(list, name, COP_ATTRIBUTE_TEXT)->text = copy;
}

void cop_attributes_int(cop_attributes *list, const char *name, int64_t value)
{
    slot(list, name, COP_ATTRIBUTE_INT)->integer = value;
}

void cop_attributes_float(cop_attributes *list, const char *name, double value)
{
    slot(list, name, COP_ATTRIBUTE_FLOAT)->real = value;
}

void cop_attributes_fini(cop_attributes *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].text);
    }
    free(list->items);
    *list = (cop_attributes){0};
}
