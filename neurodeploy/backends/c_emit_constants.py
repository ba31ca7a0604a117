"""Names that C takes, and constant arrays as C text, each of them once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import numpy as np

from neurodeploy.backends.c_ops import STORED, literal

KEYWORDS: frozenset[str] = frozenset(
    (
        *("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern"),
        *("float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed"),
        *("sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "and"),
        *("or", "not", "xor", "bool", "true", "false", "NULL", "memcpy", "memset", "offsetof", "asm", "main"),
        # C++ reads the headers too
        *("and_eq", "alignas", "alignof", "bitand", "bitor", "catch", "class", "compl", "concept", "const_cast"),
        *("constexpr", "decltype", "delete", "dynamic_cast", "explicit", "export", "friend", "mutable", "namespace"),
        *("new", "noexcept", "not_eq", "nullptr", "operator", "or_eq", "private", "protected", "public"),
        *("reinterpret_cast", "requires", "static_assert", "static_cast", "template", "this", "thread_local", "throw"),
        *("try", "typeid", "typename", "using", "virtual", "wchar_t", "xor_eq", "char16_t", "char32_t", "char8_t"),
        *("consteval", "constinit", "co_await", "co_return", "co_yield"),
        # what the writers of code name things
        *("i", "j", "k", "l", "m", "n", "p", "q", "acc", "best", "at", "state", "in", "out", "s", "v"),
    )
)
#: What the compiler, stdint.h and the core keep for themselves.
RESERVED = re.compile(
    r"_[A-Z_]\w*|nd_\w*|ND_\w*|u?int\w*_t|size_t|ptrdiff_t|U?INT\w*_(MIN|MAX|C)|(SIZE|PTRDIFF)_(MIN|MAX)"
)


def identifier(name: str) -> str:
    """A name as C takes it."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII)
    if made[:1].isdigit() or RESERVED.fullmatch(made):
        return f"v{made if made.startswith('_') else f'_{made}'}_"
    return f"{made}_" if made in KEYWORDS else made


@dataclass
class Constants:
    """The model's constant arrays, each of them once."""

    prefix: str
    defined: dict[tuple[str, bytes], str] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    nbytes: dict[str, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    weights: set[str] = field(default_factory=set)  # those that products read

    def fresh(self, stem: str) -> str:
        name = base = f"{self.prefix}_{identifier(stem)}"
        number = 1
        while name in self.names:
            number += 1
            name = f"{base}_{number}"
        self.names.add(name)
        return name

    def array(self, stem: str, data: np.ndarray, dtype: str, note: str = "", align: int = 0) -> str:
        """The C name of an array with that data."""
        key = (f"{dtype}{align}", hashlib.sha256(data.tobytes()).digest())
        if key not in self.defined:
            name = self.defined[key] = self.fresh(stem)
            aligned = f" ND_ALIGNED({align})" if align else ""
            comment = f"/* {note} */\n" if note else ""
            head = f"static const {STORED[dtype]} {name}[{max(1, data.size)}]{aligned}"
            self.text.append(f"{comment}{head} = {{\n{numbers(data, dtype)}\n}};\n")
            self.nbytes[name] = data.nbytes
        return self.defined[key]

    def struct(self, text: str, stem: str, kind: str, nbytes: int) -> str:
        """The C name of a constant structure."""
        key = (kind, text.encode())
        if key not in self.defined:
            name = self.defined[key] = self.fresh(stem)
            self.text.append(f"static const {kind} {name} = {text};\n")
            self.nbytes[name] = nbytes
        return self.defined[key]


def numbers(data: np.ndarray, dtype: str) -> str:
    """The elements as C text, wrapped into lines."""
    flat = data.reshape(-1)
    if not flat.size:
        return "    0"
    if dtype == "f32":
        finite = np.isfinite(flat).all()
        made = [f"{x:.8e}f" for x in flat.tolist()] if finite else [literal(x, dtype) for x in flat.tolist()]
        width = 7
    else:
        special = (dtype == "i32" and flat.min() == -(1 << 31)) or dtype == "i64"
        made = [literal(x, dtype) for x in flat.tolist()] if special else list(map(str, flat.astype(np.int64).tolist()))
        width = {"i8": 24, "bool": 24, "i16": 16}.get(dtype, 10)
    return "\n".join(f"    {', '.join(made[i : i + width])}," for i in range(0, len(made), width))
