"""How large the memory of a model in TFLite Micro must be: its tensor arena, on 32-bit and on 64-bit machines.

The wheel's allocator says what stays (the *tail*: structures of tensors and operators, what kernels keep, variables)
and what the tensors of a step take (the *head*). In place of the head TFLM needs, while it plans, room of its own: a
record of each tensor, and of each that is laid out (``AllocationInfoBuilder::CreateAllocationInfo`` of
micro_allocation_info.cc, ``GreedyMemoryPlanner::per_buffer_size``), and before that the operands of one operator at a
time (``InitializeTfLiteTensorFromFlatbuffer`` of micro_allocator.cc). For recurrent steps, whose tensors are many and
small, that is more than the head. What is needed was measured against this: docs/tflite/measuring.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from neurodeploy.backends.tflite.write import schema

if TYPE_CHECKING:
    from neurodeploy.deploy.tflm import Allocations

#: For other versions of TFLM, and for kernels with scratch memory of their own.
MARGIN = 1 / 16
LEAST_MARGIN = 256
ALIGNMENT = 16
#: The recording allocator's own structures, which no device has. 272 B at least in the wheel; fewer are taken off.
RECORDER = 192
#: Scratch buffers that TFLM makes room for beyond those asked for (kMaxScratchBuffersPerOp).
SCRATCH_REQUESTS = 12
#: GreedyMemoryPlanner::per_buffer_size, with what aligns its arrays.
PLANNED_BUFFER = 44


@dataclass(frozen=True)
class Machine:
    """Sizes of TFLM's structures, in bytes: AllocationInfo, ScratchBufferRequest, TfLiteTensor,
    TfLiteAffineQuantization, size_t."""

    info: int
    request: int
    tensor: int
    quantization: int
    word: int


BITS_32 = Machine(info=24, request=12, tensor=40, quantization=12, word=4)
BITS_64 = Machine(info=32, request=16, tensor=64, quantization=24, word=8)


@dataclass(frozen=True)
class Arena:
    """Bytes to reserve where pointers have 32 and where they have 64 bits, ``used`` of the wheel's arena, and the
    ``reason`` as lines of text."""

    bytes: int
    bytes_64: int
    used: int
    reason: tuple[str, ...]


def arena_of(model: bytes) -> Arena:
    """What planning and running a model takes, and a margin.

    Raises :class:`MissingExtraError` without the wheel, :class:`DeviceError` if it can't run the model.
    """
    from neurodeploy.deploy.tflm import allocations

    record = allocations(model)
    narrow, wide = needed(model, record, BITS_32), needed(model, record, BITS_64)
    return Arena(
        _with_margin(narrow),
        _with_margin(wide),
        record.total,
        (
            f"{narrow} bytes are enough to plan and to run this model on a 32-bit machine, {wide} on a 64-bit one; a",
            f"sixteenth is margin, {LEAST_MARGIN} bytes at least. Both are made of what the recording allocator of",
            f"tflite-micro {version('tflite-micro')} counts after a step ({record.total} bytes: 64 bits, reference",
            "kernels) and of what TFLM takes while it plans. Kernels with much scratch memory of their own may need",
            "more.",
        ),
    )


def needed(model: bytes, record: Allocations, machine: Machine) -> int:
    """Bytes that are enough to plan and to run the model on such a machine, as TFLM's sources have it."""
    kept = record.tail - RECORDER
    if machine.word == 4:  # both are made of pointers, with a few ints
        kept -= (record.tensors + record.nodes) // 2
    return kept + max(record.head, *_planning(model, machine))


def _planning(model: bytes, machine: Machine) -> tuple[int, int]:
    """What TFLM takes for a time: for its plan, and for the largest operator's operands."""
    root = schema().Model.GetRootAsModel(model, 0)
    requests = SCRATCH_REQUESTS * machine.request
    plan, largest = requests + machine.word * root.SubgraphsLength(), 0
    for i in range(root.SubgraphsLength()):
        graph, sizes = root.Subgraphs(i), []
        for k in range(graph.TensorsLength()):
            tensor = graph.Tensors(k)
            kept = root.Buffers(tensor.Buffer()).DataLength() > 0 or tensor.IsVariable()
            plan += machine.info + (0 if kept else PLANNED_BUFFER)
            sizes.append(machine.tensor + _quantization(tensor, machine))
        for k in range(graph.OperatorsLength()):
            largest = max(largest, sum(sizes[operand] for operand in _operands(graph.Operators(k))))
    return plan, requests + largest


def _quantization(tensor: Any, machine: Machine) -> int:
    """What a tensor's scales take as long as the tensor is looked at: TFLM copies the zero points."""
    quant = tensor.Quantization()
    scales = 0 if quant is None else quant.ScaleLength()
    return machine.quantization + 4 + 4 * scales if scales else 0


def _operands(operator: Any) -> list[int]:
    sides = (operator.InputsAsNumpy(), operator.OutputsAsNumpy(), operator.IntermediatesAsNumpy())
    # The schema's reader gives the int 0 for a vector that isn't there.
    return [int(index) for side in sides if not isinstance(side, int) for index in side if index >= 0]


def _with_margin(size: int) -> int:
    wanted = size + max(LEAST_MARGIN, int(size * MARGIN))
    return -(-wanted // ALIGNMENT) * ALIGNMENT
