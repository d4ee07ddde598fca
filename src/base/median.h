/* The median of measurements. */
#ifndef COP_BASE_MEDIAN_H
#define COP_BASE_MEDIAN_H

#include <stddef.h>

/* Sorts values[count], count >= 1. Of an even count, the mean of the two in the middle. */
double cop_median(double *values, size_t count);

#endif
