#include "io/engine.h"
