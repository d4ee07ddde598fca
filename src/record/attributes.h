/* The root attributes of a record, kept in memory until there is a file to write them to. */
#ifndef COP_RECORD_ATTRIBUTES_H
#define COP_RECORD_ATTRIBUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { COP_ATTRIBUTE_TEXT, COP_ATTRIBUTE_INT, COP_ATTRIBUTE_FLOAT } cop_attribute_type;

typedef struct {
    char *name;
    cop_attribute_type type;
    char *text; /* owned; NULL unless TEXT */
    int64_t integer;
    double real;
} cop_attribute;

typedef struct {
    cop_attribute *items;
    size_t count, capacity;
} cop_attributes; /* zero-initialise */

/* Setting a name again replaces its value and type. */
void cop_attributes_text(cop_attributes *list, const char *name, const char *value);
void cop_attributes_int(cop_attributes *list, const char *name, int64_t value);
void cop_attributes_float(cop_attributes *list, const char *name, double value);
const cop_attribute *cop_attributes_find(const cop_attributes *list, const char *name);
void cop_attributes_fini(cop_attributes *list);

#endif
