/* A stand-in for TFLite Micro's public API, for tests without its sources: NOT TFLM.
 *
 * It declares what a project uses, with TFLM's names and types, and keeps its rules for resource variables: zeroed by
 * AllocateTensors and by Reset, given their first values in the first Invoke (CALL_ONCE), the newest values kept after.
 * What a step computes is asked of the process that started this one, over the pipes whose descriptors are in
 * TFLM_STAND_IN ("read,write"); the numbers are little endian and of 32 bits:
 *   describe: 1, model -> operators; for inputs, outputs and variables how many, and the size of each; the
 *                         first values of all variables; the length and letters of each variable's name
 *   invoke: 2, model, inputs, variables -> 0, outputs, variables (or 1: failed)
 *   reset: 3, model -> 0; operators that keep state themselves (variable tensors) are behind the pipes
 * An arena of fewer bytes than TFLM_STAND_IN_NEEDS is too small for AllocateTensors.
 * Models are counted in the order in which their interpreters were made.
 */
#ifndef TFLM_STAND_IN_H
#define TFLM_STAND_IN_H

#include <unistd.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#define TFLITE_SCHEMA_VERSION (3)
#define TF_LITE_ENSURE_STATUS(a)      \
  do {                                \
    const TfLiteStatus status_ = (a); \
    if (status_ != kTfLiteOk) {       \
      return status_;                 \
    }                                 \
  } while (0)

typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
typedef enum { kTfLiteInt8 = 9 } TfLiteType;
typedef struct {
  int size;
  int data[];
} TfLiteIntArray;
typedef union {
  char *raw;
} TfLitePtrUnion;
typedef struct {
  TfLitePtrUnion data;
  size_t bytes;
} TfLiteTensor;
typedef struct {
  TfLitePtrUnion data;
  TfLiteIntArray *dims;
  TfLiteType type;
} TfLiteEvalTensor;

inline void MicroPrintf(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
}

namespace tflite {

inline void InitializeTarget() {}

class Model {
 public:
  uint32_t version() const { return TFLITE_SCHEMA_VERSION; }
};

inline const Model *GetModel(const void *data) {
  return memcmp(static_cast<const char *>(data) + 4, "TFL3", 4) == 0 ? static_cast<const Model *>(data) : nullptr;
}

class MicroOpResolver {
 public:
  unsigned count = 0;
};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
#define TFLM_STAND_IN_ADD(name) \
  TfLiteStatus Add##name() { return count++ < tOpCount ? kTfLiteOk : kTfLiteError; }
  TFLM_STAND_IN_ADD(Abs)
  TFLM_STAND_IN_ADD(Add)
  TFLM_STAND_IN_ADD(AssignVariable)
  TFLM_STAND_IN_ADD(BatchMatMul)
  TFLM_STAND_IN_ADD(BroadcastTo)
  TFLM_STAND_IN_ADD(CallOnce)
  TFLM_STAND_IN_ADD(Cast)
  TFLM_STAND_IN_ADD(Concatenation)
  TFLM_STAND_IN_ADD(DynamicUpdateSlice)
  TFLM_STAND_IN_ADD(Equal)
  TFLM_STAND_IN_ADD(FullyConnected)
  TFLM_STAND_IN_ADD(Logistic)
  TFLM_STAND_IN_ADD(Less)
  TFLM_STAND_IN_ADD(LogicalAnd)
  TFLM_STAND_IN_ADD(Maximum)
  TFLM_STAND_IN_ADD(Minimum)
  TFLM_STAND_IN_ADD(Mul)
  TFLM_STAND_IN_ADD(NotEqual)
  TFLM_STAND_IN_ADD(Pack)
  TFLM_STAND_IN_ADD(Quantize)
  TFLM_STAND_IN_ADD(ReadVariable)
  TFLM_STAND_IN_ADD(Relu)
  TFLM_STAND_IN_ADD(Reshape)
  TFLM_STAND_IN_ADD(SelectV2)
  TFLM_STAND_IN_ADD(Slice)
  TFLM_STAND_IN_ADD(Split)
  TFLM_STAND_IN_ADD(StridedSlice)
  TFLM_STAND_IN_ADD(Sub)
  TFLM_STAND_IN_ADD(Sum)
  TFLM_STAND_IN_ADD(Tanh)
  TFLM_STAND_IN_ADD(Transpose)
  TFLM_STAND_IN_ADD(UnidirectionalSequenceLSTM)
  TFLM_STAND_IN_ADD(Unpack)
  TFLM_STAND_IN_ADD(VarHandle)
  TFLM_STAND_IN_ADD(While)
#undef TFLM_STAND_IN_ADD
};

class MicroAllocator {
 public:
  static MicroAllocator *Create(uint8_t *arena, size_t bytes) {
    return reinterpret_cast<uintptr_t>(arena) % 16 == 0 ? new MicroAllocator{bytes} : nullptr;
  }
  size_t bytes;
};

class MicroResourceVariables {
 public:
  static MicroResourceVariables *Create(MicroAllocator *, int most) {
    MicroResourceVariables *made = new MicroResourceVariables;
    made->most_ = static_cast<size_t>(most);
    return made;
  }
  int CreateIdIfNoneFound(const char *, const char *name) {
    for (size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] == name) {
        return static_cast<int>(i);
      }
    }
    if (names_.size() == most_) {
      return -1;
    }
    names_.push_back(name);
    return static_cast<int>(names_.size() - 1);
  }
  TfLiteStatus Read(int id, const TfLiteEvalTensor *to) {
    if (id < 0 || static_cast<size_t>(to->dims->data[0]) != values[static_cast<size_t>(id)].size()) {
      return kTfLiteError;
    }
    memcpy(to->data.raw, values[static_cast<size_t>(id)].data(), values[static_cast<size_t>(id)].size());
    return kTfLiteOk;
  }
#ifdef TFLM_STAND_IN_OLD /* before December 2024 */
  TfLiteStatus Assign(int id, const TfLiteEvalTensor *from) {
    return Put(id, static_cast<size_t>(from->dims->data[0]), from->data.raw);
  }
#else
  TfLiteStatus Assign(int id, size_t bytes, const void *from) { return Put(id, bytes, from); }
#endif
  std::vector<std::vector<uint8_t>> values;

 private:
  TfLiteStatus Put(int id, size_t bytes, const void *from) {
    if (id < 0 || bytes != values[static_cast<size_t>(id)].size()) {
      return kTfLiteError;
    }
    memcpy(values[static_cast<size_t>(id)].data(), from, bytes);
    return kTfLiteOk;
  }

  size_t most_ = 0;
  std::vector<std::string> names_;
};

class MicroInterpreter {
 public:
  MicroInterpreter(const Model *, const MicroOpResolver &ops, MicroAllocator *allocator,
                   MicroResourceVariables *variables = nullptr)
      : ops_(ops), arena_(allocator->bytes), variables_(variables) {
    static uint32_t made = 0;
    number_ = made++;
  }
  TfLiteStatus AllocateTensors() {
    if (sscanf(getenv("TFLM_STAND_IN"), "%d,%d", &from_, &to_) != 2) {
      return kTfLiteError;
    }
    if (arena_ < static_cast<size_t>(atol(getenv("TFLM_STAND_IN_NEEDS")))) {
      return kTfLiteError;
    }
    Put(1);
    Put(number_);
    if (Get() != ops_.count) {
      fprintf(stderr, "the resolver has not exactly the model's operators\n");
      return kTfLiteError;
    }
    Sizes(&inputs_);
    Sizes(&outputs_);
    Sizes(&first_);
    for (std::vector<uint8_t> &first : first_) {
      GetBytes(first.data(), first.size());
    }
    if (variables_ != nullptr) {
      variables_->values = first_;
      for (size_t i = 0; i < first_.size(); ++i) {
        variables_->CreateIdIfNoneFound(nullptr, Name().c_str());
      }
    }
    return Reset();
  }
  TfLiteStatus Invoke() {
    if (!invoked_ && variables_ != nullptr) {
      variables_->values = first_;
    }
    invoked_ = true;
    Put(2);
    Put(number_);
    for (const std::vector<uint8_t> &input : inputs_) {
      PutBytes(input.data(), input.size());
    }
    for (size_t i = 0; i < first_.size(); ++i) {
      PutBytes(variables_->values[i].data(), variables_->values[i].size());
    }
    if (Get() != 0) {
      return kTfLiteError;
    }
    for (std::vector<uint8_t> &output : outputs_) {
      GetBytes(output.data(), output.size());
    }
    for (size_t i = 0; i < first_.size(); ++i) {
      GetBytes(variables_->values[i].data(), variables_->values[i].size());
    }
    return kTfLiteOk;
  }
  TfLiteStatus Reset() {
    for (size_t i = 0; i < first_.size(); ++i) {
      variables_->values[i].assign(first_[i].size(), 0);
    }
    Put(3);
    Put(number_);
    return Get() == 0 ? kTfLiteOk : kTfLiteError;
  }
  size_t inputs_size() const { return inputs_.size(); }
  size_t outputs_size() const { return outputs_.size(); }
  TfLiteTensor *input(size_t i) { return Tensor(&inputs_[i]); }
  TfLiteTensor *output(size_t i) { return Tensor(&outputs_[i]); }
  size_t arena_used_bytes() const { return arena_; }

 private:
  TfLiteTensor *Tensor(std::vector<uint8_t> *bytes) {
    tensor_.data.raw = reinterpret_cast<char *>(bytes->data());
    tensor_.bytes = bytes->size();
    return &tensor_;
  }
  void Sizes(std::vector<std::vector<uint8_t>> *buffers) {
    buffers->resize(Get());
    for (std::vector<uint8_t> &buffer : *buffers) {
      buffer.resize(Get());
    }
  }
  std::string Name() {
    std::vector<char> name(Get());
    GetBytes(name.data(), name.size());
    return std::string(name.begin(), name.end());
  }
  void Put(uint32_t value) { PutBytes(&value, sizeof value); }
  uint32_t Get() {
    uint32_t value = 0;
    GetBytes(&value, sizeof value);
    return value;
  }
  void PutBytes(const void *bytes, size_t count) {
    if (count != 0 && write(to_, bytes, count) != static_cast<ssize_t>(count)) {
      exit(3);
    }
  }
  void GetBytes(void *bytes, size_t count) {
    for (size_t at = 0; at < count;) {
      const ssize_t got = read(from_, static_cast<char *>(bytes) + at, count - at);
      if (got <= 0) {
        exit(3);
      }
      at += static_cast<size_t>(got);
    }
  }

  const MicroOpResolver &ops_;
  size_t arena_;
  MicroResourceVariables *variables_;
  uint32_t number_;
  int from_ = -1, to_ = -1;
  bool invoked_ = false;
  TfLiteTensor tensor_;
  std::vector<std::vector<uint8_t>> inputs_, outputs_, first_;
};

}  // namespace tflite

#endif
