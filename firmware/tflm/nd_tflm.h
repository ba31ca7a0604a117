/* A recurrent network in TFLite Micro: each stage is a model in an interpreter of its own, called once a time step.
 *
 * Only TFLM's public API is used: GetModel, MicroMutableOpResolver, MicroAllocator, MicroResourceVariables,
 * MicroInterpreter. The models, their arenas and their states are described in model_data.h.
 */
#ifndef ND_TFLM_H
#define ND_TFLM_H

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_op_resolver.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"

namespace neurodeploy {

/* TFLM has no version number. What tells an older one is MicroResourceVariables::Assign, which took a tensor until
 * December 2024 and takes bytes since. */
using AssignBytes = TfLiteStatus (tflite::MicroResourceVariables::*)(int, size_t, const void *);
using AssignTensor = TfLiteStatus (tflite::MicroResourceVariables::*)(int, const TfLiteEvalTensor *);

/* FULLY_CONNECTED with a scale per row of the weights: TFLM computes it since September 2024, refuses it since May of
 * that year, and before took the first row's scale for all of them. ND_TFLM_SCALE_PER_ROW=1 says that yours has it. */
#ifdef ND_TFLM_SCALE_PER_ROW
constexpr bool kScalePerRow = ND_TFLM_SCALE_PER_ROW != 0;
#else
constexpr bool kScalePerRow = std::is_same<decltype(&tflite::MicroResourceVariables::Assign), AssignBytes>::value;
#endif

/* A state of the network, which the model keeps in a variable of that name from call to call. initial is what it
 * starts with, or null where that is what MicroInterpreter::Reset puts there. */
struct Variable {
  const char *name;
  uint32_t bytes;
  const uint8_t *initial;
};

struct StageModel {
  const char *name;
  const uint8_t *model; /* the .tflite file, aligned */
  uint8_t *arena;       /* aligned to 16 bytes */
  size_t arena_bytes;
  const Variable *variables;
  int n_variables;
};

/* The functions return false where TFLM failed; it has said why through its DebugLog. Inputs, outputs and states are
 * the raw bytes of the model's tensors, one after the other in the model's order. */
class Stage {
 public:
  /* Makes the interpreter and puts the state to its beginning. ops must live as long as the stage. */
  bool Begin(const StageModel &stage, const tflite::MicroOpResolver &ops);

  /* Puts the state back to its beginning. MicroInterpreter::Reset alone zeroes it. */
  bool Reset();

  /* One time step on what lies in the input tensors. */
  bool Step();

  uint32_t InBytes();
  uint32_t OutBytes();
  uint32_t StateBytes() const;
  size_t ArenaUsed() const { return interpreter_->arena_used_bytes(); }

  void SetInputs(const uint8_t *from);
  void GetOutputs(uint8_t *to);
  bool GetState(uint8_t *to);
  bool SetState(const uint8_t *from);

 private:
  bool Plan(const StageModel &stage, const tflite::MicroOpResolver &ops);
  int VariableId(int i);

  const StageModel *stage_ = nullptr;
  tflite::MicroResourceVariables *variables_ = nullptr;
  tflite::MicroInterpreter *interpreter_ = nullptr;
  alignas(tflite::MicroInterpreter) uint8_t storage_[sizeof(tflite::MicroInterpreter)];
};

}  // namespace neurodeploy

#endif
