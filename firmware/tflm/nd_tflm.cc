/* A stage of a network in TFLite Micro: see nd_tflm.h. */
#include "nd_tflm.h"

#include <cstring>
#include <new>

#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace neurodeploy {
namespace {

using Variables = tflite::MicroResourceVariables;

uint32_t BytesOf(const TfLiteTensor *tensor) { return static_cast<uint32_t>(tensor->bytes); }

/* The bytes of a variable as a tensor of int8: Read copies what the tensor's shape takes. dims: two numbers. */
TfLiteEvalTensor Seen(int *dims, const uint8_t *bytes, uint32_t n) {
  dims[0] = 1;
  dims[1] = static_cast<int>(n);
  TfLiteEvalTensor seen;
  seen.data.raw = reinterpret_cast<char *>(const_cast<uint8_t *>(bytes));
  seen.dims = reinterpret_cast<TfLiteIntArray *>(dims);
  seen.type = kTfLiteInt8;
  return seen;
}

/* MicroResourceVariables::Assign as it is since December 2024 and as it was before: the compiler picks its own. */
[[maybe_unused]] bool Assign(AssignBytes assign, Variables *variables, int id, const uint8_t *from, uint32_t bytes) {
  return (variables->*assign)(id, bytes, from) == kTfLiteOk;
}

[[maybe_unused]] bool Assign(AssignTensor assign, Variables *variables, int id, const uint8_t *from, uint32_t bytes) {
  int dims[2];
  const TfLiteEvalTensor seen = Seen(dims, from, bytes);
  return (variables->*assign)(id, &seen) == kTfLiteOk;
}

}  // namespace

bool Stage::Begin(const StageModel &stage, const tflite::MicroOpResolver &ops) {
  if (Plan(stage, ops) && Step() && Reset()) {
    return true;
  }
  MicroPrintf("stage '%s' can't begin in its arena of %d bytes.", stage.name, static_cast<int>(stage.arena_bytes));
  MicroPrintf("If memory is missing above, enlarge its arena_bytes in model_data.h.");
  return false;
}

bool Stage::Plan(const StageModel &stage, const tflite::MicroOpResolver &ops) {
  stage_ = &stage;
  const tflite::Model *model = tflite::GetModel(stage.model);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    return false;
  }
  tflite::MicroAllocator *allocator = tflite::MicroAllocator::Create(stage.arena, stage.arena_bytes);
  if (allocator == nullptr) {
    return false;
  }
  if (stage.n_variables > 0) {
    variables_ = tflite::MicroResourceVariables::Create(allocator, stage.n_variables);
  }
  interpreter_ = new (storage_) tflite::MicroInterpreter(model, ops, allocator, variables_);
  if (interpreter_->AllocateTensors() != kTfLiteOk) {
    return false;
  }
  /* CALL_ONCE gives the variables their first values in the first call, whatever lies in them: that call is made here,
   * so that a state that is set before the first step stays. */
  for (size_t i = 0; i < interpreter_->inputs_size(); ++i) {
    memset(interpreter_->input(i)->data.raw, 0, interpreter_->input(i)->bytes);
  }
  return true;
}

bool Stage::Reset() {
  if (interpreter_->Reset() != kTfLiteOk) {
    return false;
  }
  for (int i = 0; i < stage_->n_variables; ++i) {
    const Variable &variable = stage_->variables[i];
    if (variable.initial != nullptr &&
        !Assign(&Variables::Assign, variables_, VariableId(i), variable.initial, variable.bytes)) {
      return false;
    }
  }
  return true;
}

bool Stage::Step() { return interpreter_->Invoke() == kTfLiteOk; }

uint32_t Stage::InBytes() {
  uint32_t bytes = 0;
  for (size_t i = 0; i < interpreter_->inputs_size(); ++i) {
    bytes += BytesOf(interpreter_->input(i));
  }
  return bytes;
}

uint32_t Stage::OutBytes() {
  uint32_t bytes = 0;
  for (size_t i = 0; i < interpreter_->outputs_size(); ++i) {
    bytes += BytesOf(interpreter_->output(i));
  }
  return bytes;
}

uint32_t Stage::StateBytes() const {
  uint32_t bytes = 0;
  for (int i = 0; i < stage_->n_variables; ++i) {
    bytes += stage_->variables[i].bytes;
  }
  return bytes;
}

void Stage::SetInputs(const uint8_t *from) {
  for (size_t i = 0; i < interpreter_->inputs_size(); ++i) {
    TfLiteTensor *tensor = interpreter_->input(i);
    memcpy(tensor->data.raw, from, tensor->bytes);
    from += tensor->bytes;
  }
}

void Stage::GetOutputs(uint8_t *to) {
  for (size_t i = 0; i < interpreter_->outputs_size(); ++i) {
    const TfLiteTensor *tensor = interpreter_->output(i);
    memcpy(to, tensor->data.raw, tensor->bytes);
    to += tensor->bytes;
  }
}

bool Stage::GetState(uint8_t *to) {
  for (int i = 0; i < stage_->n_variables; ++i) {
    const Variable &variable = stage_->variables[i];
    int dims[2];
    const TfLiteEvalTensor seen = Seen(dims, to, variable.bytes);
    if (variables_->Read(VariableId(i), &seen) != kTfLiteOk) {
      return false;
    }
    to += variable.bytes;
  }
  return true;
}

bool Stage::SetState(const uint8_t *from) {
  for (int i = 0; i < stage_->n_variables; ++i) {
    const Variable &variable = stage_->variables[i];
    if (!Assign(&Variables::Assign, variables_, VariableId(i), from, variable.bytes)) {
      return false;
    }
    from += variable.bytes;
  }
  return true;
}

int Stage::VariableId(int i) { return variables_->CreateIdIfNoneFound(nullptr, stage_->variables[i].name); }

}  // namespace neurodeploy
