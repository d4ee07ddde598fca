/* While one of these lives, a wild access ends the program with a text that names kernel, block and
 * thread. Then the program's own handlers are back. */
#ifndef COP_EMULATOR_FAULTS_H
#define COP_EMULATOR_FAULTS_H

#include <signal.h>

class emulator_faults
{
  public:
    emulator_faults();
    ~emulator_faults();

  private:
    struct sigaction segv, bus, fpe, ill;
};

#endif
