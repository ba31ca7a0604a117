"""The tables that a description of hardware is made of: closed, sourced, never changed after they are read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
Address = Annotated[int, Field(ge=0, lt=2**32)]
Bytes = Annotated[int, Field(gt=0, le=2**32)]
Hz = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Flags = Annotated[tuple[str, ...], Field(strict=False)]


def pair(value: Any) -> Any:
    """One number stands for a range of that number."""
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def ordered(range_: tuple[float, float]) -> tuple[float, float]:
    """The range, or :class:`ValueError` if its ends are the wrong way round."""
    if range_[0] > range_[1]:
        raise ValueError(f"{range_[0]} is more than {range_[1]}; needed: [low, high]")
    return range_


#: One number, or [low, high] where sources disagree.
Range = Annotated[
    tuple[Positive, Positive], Field(strict=False), BeforeValidator(pair), AfterValidator(ordered)
]  # fmt: skip


class Table(BaseModel):
    """A TOML table: no unknown keys, no silent conversions, never changed after it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Sourced(Table):
    """A table of physical numbers; ``source`` says where they come from (a paper, a manual, a measurement)."""

    source: Text


class Description(Table):
    """What every file says. ``name`` is the file's own name."""

    kind: str
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: Text


class Target(Description):
    """Something that a program can be compiled for; ``backend`` is the one that compiles for it."""

    backend: Text
