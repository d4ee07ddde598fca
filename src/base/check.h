/* Invariant checks that stay on in release builds. The condition must have no side effects. */
#ifndef COP_BASE_CHECK_H
#define COP_BASE_CHECK_H

#define COP_CHECK(condition) \
    ((condition) ? (void)0 : cop_check_failed(#condition, __FILE__, __LINE__))

_Noreturn void cop_check_failed(const char *condition, const char *file, int line);

#endif
