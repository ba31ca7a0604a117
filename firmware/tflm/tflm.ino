/* For Arduino this folder is a sketch: setup() and loop() are in main.cc. The line below makes Arduino look into the
 * library Arduino_TensorFlowLite; with another library of TFLite Micro, name its header instead. */
#include <TensorFlowLite.h>
