/* See tflm_stand_in.h. */
#include "tflm_stand_in.h"
