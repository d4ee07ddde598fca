/* Switching between stacks. */
#ifndef COP_EMULATOR_FIBER_H
#define COP_EMULATOR_FIBER_H

/* Keeps the stack pointer in *from and goes on where `to` was kept. */
extern "C" void emulator_switch(void **from, void *to);

/* A stack pointer to switch to: entry() runs on the stack that ends at `top`, and never returns. */
void *emulator_new_fiber(void *top, void (*entry)());

#endif
