#include "coppice.h"

typedef int cop_api_to_come;
