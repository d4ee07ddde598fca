#include "tokenizer/tokenizer.h"

typedef int cop_tokenizer_to_come;
