/* Static shared memory: where `__shared__` variables lie, so that they can be poisoned before each
 * block and told from other memory. They are ordinary static variables, found by the symbols of the
 * module: those in the section that `__shared__` names, and static variables of function templates
 * that are zero at first, which the compiler does not put there. So a program that uses the emulator
 * must not have such a variable in a template of its own. */
#ifndef COP_EMULATOR_SHARED_RANGES_H
#define COP_EMULATOR_SHARED_RANGES_H

#include <stddef.h>

/* Takes in those of the module (program or library) that holds this function. Once per module. */
void emulator_add_shared_ranges(const void *function);

void emulator_poison_shared_ranges();
bool emulator_in_shared_ranges(const unsigned char *p, size_t bytes);

#endif
