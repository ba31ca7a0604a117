"""Names of the IR as identifiers of Brian2 and Python."""

from __future__ import annotations

import keyword
import re

#: What Brian2's, NumPy's and C++'s code or the scripts themselves call so.
WORDS = """
i j t dt N xi second lanes feeds neurons spikes clock space objects b2 connect name records phases variable state
network start stop mem trace J beta rest keep ceiling int abs clip floor ceil exp log sqrt tanh sin cos tan sign rand
randn poisson lastspike not_refractory and or not True False inf nan e pi double float bool char short long signed
unsigned const static struct class template namespace new delete this auto register void return if else for while do
switch case default break continue goto typedef union enum extern volatile operator private public protected virtual
friend inline try catch throw using typename export asm fresh running w delay source target pre post events code update
"""
TAKEN = frozenset(WORDS.split())


class Names:
    """Gives everything an identifier of its own."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._used: set[str] = set()

    def new(self, name: str) -> str:
        """An identifier that no other name has; letters and digits of the name, underscores for the rest."""
        word = re.sub(r"_+", "_", re.sub(r"\W", "_", name, flags=re.ASCII)).strip("_")
        if (
            not word
            or not word[0].isalpha()
            or word in TAKEN
            or keyword.iskeyword(word)
            or word.endswith(("_pre", "_post"))
        ):
            word = f"v_{word}_v" if word.endswith(("_pre", "_post")) else f"v_{word}".rstrip("_")
        base, count = word, 1
        while word.lower() in self._used or word in TAKEN:
            count += 1
            word = f"{base}_n{count}"
        self._used.add(word.lower())
        return word

    def __call__(self, key: str, name: str) -> str:
        """The identifier of a key, made of a name when it is first asked for."""
        if key not in self._of:
            self._of[key] = self.new(name)
        return self._of[key]
