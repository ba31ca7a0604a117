/* The network behind a serial line: answers INFO, RESET, STEP, READ and WRITE of nd_resident.h.
 *
 * With this firmware on a board, `neurodeploy validate BUILD --on board --port PORT --data FILE.npz` compares every
 * step's outputs with the golden model and says what a step costs. In a product, keep nd_tflm and drop this file.
 */
#include <cstring>

#include "model_data.h"
#include "nd_port.h"
#include "nd_tflm.h"
#include "op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"

extern "C" {
#include "nd_link.h"
#include "nd_resident.h"
}

#if defined(ARDUINO)
#include <Arduino.h> /* declares setup and loop with the core's linkage; last, for its macros */
#endif

namespace {

using neurodeploy::kStages;

constexpr uint32_t kNoDetail = 0;
constexpr uint32_t kFlags = ND_STEP_RESET_FIRST | ND_STEP_STATES | ND_STEP_IN_PLACE;

neurodeploy::OpResolver ops;
neurodeploy::Stage stages[kStages];
int failed_stage = -1; /* the one that TFLM could not begin */

/* One step's inputs, outputs and state: what READ and WRITE reach. */
uint8_t in[neurodeploy::kMaxInBytes + 1];
uint8_t out[neurodeploy::kMaxOutBytes + 1];
uint8_t state[neurodeploy::kMaxStateBytes + 1];

nd_link_rx_t rx;
alignas(8) uint8_t reply[ND_LINK_MAX_FRAME];
uint32_t reply_bytes; /* of the cached reply; 0: none */
uint32_t reply_to_crc;
uint16_t reply_to_seq;
uint32_t n_broken;
uint32_t empty_ticks;

/* A reply's type and the length of its payload, which already lies in reply. */
struct Outcome {
  uint8_t type;
  uint32_t length;
};

uint8_t *Payload() { return reply + ND_LINK_HEADER_BYTES; }

uint8_t *Put(uint8_t *at, uint32_t value) {
  nd_link_put32(at, value);
  return at + 4;
}

Outcome Nak(uint32_t code, uint32_t detail, uint32_t more) {
  Put(Put(Put(Payload(), code), detail), more);
  return {ND_NAK, 12};
}

Outcome Ack(uint8_t type, uint32_t length) { return {static_cast<uint8_t>(type | ND_REPLY), length}; }

Outcome AnswerPing() {
  uint8_t *at = Put(Put(Put(Payload(), ND_TARGET_TFLM), ND_FIRMWARE_ABI), ND_LINK_MAX_PAYLOAD);
  memcpy(at, neurodeploy::kProjectHash, 16);
  at = Put(at + 16, 0);     /* no processor's register is read */
  at = Put(Put(at, 0), 0);  /* no slot: the model is part of the firmware */
  at = Put(at, nd_port_ticks_per_second());
  at = Put(Put(at, n_broken), 0);
  return Ack(ND_PING, static_cast<uint32_t>(at - Payload()));
}

Outcome AnswerInfo() {
  uint32_t arena = 0;
  for (neurodeploy::Stage &stage : stages) {
    arena += static_cast<uint32_t>(stage.ArenaUsed());
  }
  uint8_t *at = Put(Put(Payload(), neurodeploy::kModelBytes), 0);
  memcpy(at, neurodeploy::kModelHash, 16);
  at = Put(Put(Put(at + 16, arena), empty_ticks), kStages);
  for (neurodeploy::Stage &stage : stages) {
    at = Put(Put(Put(at, stage.StateBytes()), stage.InBytes()), stage.OutBytes());
  }
  return Ack(ND_INFO, static_cast<uint32_t>(at - Payload()));
}

Outcome ResetStage(const uint8_t *payload, uint32_t length) {
  if (length != 4) {
    return Nak(ND_ERR_LENGTH, length, 4);
  }
  const uint32_t index = nd_link_get32(payload);
  if (index >= kStages) {
    return Nak(ND_ERR_STAGE, index, kStages);
  }
  return stages[index].Reset() ? Ack(ND_RESET, 0) : Nak(ND_ERR_TFLM, index, kNoDetail);
}

Outcome StepStage(const uint8_t *payload, uint32_t length) {
  if (length < 8) {
    return Nak(ND_ERR_LENGTH, length, 8);
  }
  const uint32_t index = payload[0], flags = payload[1], n = nd_link_get32(payload + 4);
  if (index >= kStages) {
    return Nak(ND_ERR_STAGE, index, kStages);
  }
  if ((flags & ~kFlags) != 0) {
    return Nak(ND_ERR_UNKNOWN, ND_STEP, kNoDetail);
  }
  neurodeploy::Stage &stage = stages[index];
  const bool in_place = (flags & ND_STEP_IN_PLACE) != 0;
  const uint32_t in_bytes = in_place ? 0 : stage.InBytes(), out_bytes = in_place ? 0 : stage.OutBytes();
  const uint32_t state_bytes = (flags & ND_STEP_STATES) != 0 ? stage.StateBytes() : 0;
  /* n first: with it bounded, the products can't wrap. */
  if (n > ND_LINK_MAX_PAYLOAD / 4 ||
      8 + static_cast<uint64_t>(n) * (4 + out_bytes + state_bytes) > ND_LINK_MAX_PAYLOAD) {
    return Nak(ND_ERR_REPLY, n, ND_LINK_MAX_PAYLOAD);
  }
  if (8 + static_cast<uint64_t>(n) * in_bytes != length) {
    return Nak(ND_ERR_LENGTH, length, 8 + n * in_bytes);
  }
  if ((flags & ND_STEP_RESET_FIRST) != 0 && !stage.Reset()) {
    return Nak(ND_ERR_TFLM, index, kNoDetail);
  }
  const uint8_t *from = payload + 8;
  uint8_t *ticks_at = Put(Put(Payload(), n), 0), *out_at = ticks_at + 4 * n, *state_at = out_at + n * out_bytes;
  for (uint32_t i = 0; i < n; ++i) {
    memcpy(in, from, in_bytes);
    stage.SetInputs(in);
    const uint32_t start = nd_port_ticks();
    const bool stepped = stage.Step();
    const uint32_t ticks = nd_port_ticks() - start;
    if (!stepped || (state_bytes != 0 && !stage.GetState(state_at))) {
      return Nak(ND_ERR_TFLM, index, kNoDetail);
    }
    stage.GetOutputs(out);
    memcpy(out_at, out, out_bytes);
    ticks_at = Put(ticks_at, ticks);
    from += in_bytes;
    out_at += out_bytes;
    state_at += state_bytes;
  }
  return Ack(ND_STEP, 8 + n * (4 + out_bytes + state_bytes));
}

Outcome Access(uint8_t type, const uint8_t *payload, uint32_t length) {
  const uint32_t head = type == ND_READ ? 12 : 8;
  if (length < head || (type == ND_READ && length != head)) {
    return Nak(ND_ERR_LENGTH, length, head);
  }
  const uint32_t index = payload[0], region = payload[1], offset = nd_link_get32(payload + 4);
  const uint32_t bytes = type == ND_READ ? nd_link_get32(payload + 8) : length - head;
  if (index >= kStages) {
    return Nak(ND_ERR_STAGE, index, kStages);
  }
  if (region >= ND_REGIONS) {
    return Nak(ND_ERR_RANGE, region, ND_REGIONS);
  }
  neurodeploy::Stage &stage = stages[index];
  const uint32_t room[] = {stage.StateBytes(), stage.InBytes(), stage.OutBytes()};
  uint8_t *const buffers[] = {state, in, out};
  if (offset > room[region] || bytes > room[region] - offset) {
    return Nak(ND_ERR_RANGE, offset + bytes, room[region]);
  }
  if (type == ND_READ && bytes > ND_LINK_MAX_PAYLOAD) {
    return Nak(ND_ERR_REPLY, bytes, ND_LINK_MAX_PAYLOAD);
  }
  uint8_t *const at = buffers[region] + offset;
  if (region == ND_REGION_STATE && !stage.GetState(state)) {
    return Nak(ND_ERR_TFLM, index, kNoDetail);
  }
  if (type == ND_READ) {
    memcpy(Payload(), at, bytes);
    return Ack(ND_READ, bytes);
  }
  memcpy(at, payload + head, bytes);
  if (region == ND_REGION_STATE && !stage.SetState(state)) {
    return Nak(ND_ERR_TFLM, index, kNoDetail);
  }
  return Ack(ND_WRITE, 0);
}

Outcome Answer(const uint8_t *frame) {
  const uint8_t type = nd_link_type(frame), *payload = frame + ND_LINK_HEADER_BYTES;
  const uint32_t length = nd_link_length(frame);
  if (nd_link_version(frame) != ND_LINK_VERSION) {
    return Nak(ND_ERR_VERSION, ND_LINK_VERSION, kNoDetail);
  }
  if ((type == ND_PING || type == ND_INFO) && length != 0) {
    return Nak(ND_ERR_LENGTH, length, 0);
  }
  if (type == ND_PING) {
    return AnswerPing();
  }
  if (failed_stage >= 0) {
    const uint32_t index = static_cast<uint32_t>(failed_stage);
    return Nak(ND_ERR_TFLM_BEGIN, index, static_cast<uint32_t>(neurodeploy::kStageModels[index].arena_bytes));
  }
  switch (type) {
    case ND_INFO:
      return AnswerInfo();
    case ND_RESET:
      return ResetStage(payload, length);
    case ND_STEP:
      return StepStage(payload, length);
    case ND_READ:
    case ND_WRITE:
      return Access(type, payload, length);
    default:
      return Nak(ND_ERR_UNKNOWN, type, kNoDetail);
  }
}

void Send() {
  nd_port_putc(0); /* ends whatever TFLM's log wrote on the line */
  nd_link_send(reply, reply_bytes, nd_port_putc);
}

/* A request that comes again is answered from memory: its first answer was lost, and a step must not be made twice. */
void Handle(const uint8_t *frame) {
  const uint16_t seq = nd_link_seq(frame);
  const uint32_t crc = nd_link_get32(frame + ND_LINK_HEADER_BYTES + nd_link_length(frame));
  const bool again = reply_bytes != 0 && seq == reply_to_seq && crc == reply_to_crc;
  if (!again || nd_link_type(frame) == ND_PING) {
    const Outcome outcome = Answer(frame);
    reply_bytes = nd_link_seal(reply, outcome.type, seq, outcome.length);
    reply_to_seq = seq;
    reply_to_crc = crc;
  }
  Send();
}

void Begin() {
  if (neurodeploy::AddOps(&ops) != kTfLiteOk) {
    failed_stage = 0;
    return;
  }
  for (uint32_t i = 0; i < kStages; ++i) {
    if (!stages[i].Begin(neurodeploy::kStageModels[i], ops)) {
      failed_stage = static_cast<int>(i);
      return;
    }
  }
  const uint32_t start = nd_port_ticks();
  empty_ticks = nd_port_ticks() - start;
}

void Setup() {
  tflite::InitializeTarget();
  nd_port_init();
  nd_link_reset(&rx);
  Begin();
}

void Loop() {
  const nd_link_event_t event = nd_link_feed(&rx, nd_port_getc());
  if (event == ND_LINK_FRAME) {
    Handle(rx.frame);
  } else if (event == ND_LINK_BROKEN) {
    ++n_broken;
  }
}

}  // namespace

#if defined(ARDUINO)
void setup() { Setup(); }
void loop() { Loop(); }
#else
#if defined(ESP_PLATFORM)
extern "C" void app_main(void) {
#else
int main() {
#endif
  Setup();
  for (;;) {
    Loop();
  }
}
#endif
