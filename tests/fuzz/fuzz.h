/* What a fuzzer is: one function, under the name that libFuzzer calls, in a file fuzz_NAME.c with
 * its first inputs in corpus/NAME/. It must survive any bytes, and checks with COP_CHECK what must
 * hold for all of them. main.c runs it without libFuzzer; hunt.sh builds it with libFuzzer and
 * hunts for as long as one likes. */
#ifndef COP_TESTS_FUZZ_H
#define COP_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0. The bytes end where `size` says: no zero follows them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
