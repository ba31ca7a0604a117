"""Networks on many chips: accuracy over age, where the error comes from, what repair and fine-tuning bring.

JapaneseVowels, the GRU and the echo state network of ``examples/``, trained anew for seeds 0 to 4; 20 chips a seed, 100
in all. Converter ranges, repair and fine-tuning see the training set alone; the test set only judges. Every part prints
the float network first. Needs ``pip install 'neurodeploy[train,crossbar]'``.

    python -m benchmarks.crossbar_networks [--parts ages effects repair] [--networks gru esn]
        [--targets pcm-128 rram-hfo2-128] [--seeds 5] [--chips 20] [--epochs 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import precision
from neurodeploy import compiler, data, hardware
from neurodeploy.artifact import Trace
from neurodeploy.cli.output import table
from neurodeploy.compiler import Built
from neurodeploy.crossbar.attribution import Attribution, Measured, attribute
from neurodeploy.crossbar.effects import EFFECTS
from neurodeploy.crossbar.repair.fine_tune import YEAR, fine_tune
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.report.metrics import mcnemar
from neurodeploy.validate import scores_of

NETWORKS = {"gru": ("GRU(32)", precision.gru), "esn": ("echo state net (100)", precision.echo_state)}
PARTS = ("ages", "effects", "repair")
AGES = ("0s", "1h", "1d", "1y")
REPAIRS = ("none", "columns", "readout", "both")
#: A difference of one chip from the float network that is called one, by McNemar's exact test over the test samples.
P = 0.05


@dataclass(frozen=True)
class Network:
    """A trained network of a seed, its data, and which test samples it gets right as it is."""

    kind: str
    seed: int
    program: Program
    train: Data
    test: Data
    right: np.ndarray

    @classmethod
    def of(cls, kind: str, seed: int) -> Network:
        program = NETWORKS[kind][1](seed)
        folder = precision.EXAMPLES / "data"
        train, test = (data.load(folder / f"japanese_vowels_{split}.npz", program) for split in ("train", "test"))
        plain = interpret.run(program, test.inputs, test.lengths)
        return cls(kind, seed, program, train, test, correct(program, real_outputs(program, plain), test))

    @property
    def percent(self) -> float:
        """Float accuracy."""
        return 100 * float(self.right.mean())


def correct(program: Program, outputs: Mapping[str, np.ndarray], test: Data) -> np.ndarray:
    """Which samples are classified rightly."""
    assert test.labels is not None
    return scores_of(program, dict(outputs), test.lengths, test.labels).argmax(axis=1) == test.labels


def on_chips(built: Built, network: Network, chips: int, ages: tuple[str, ...], repair: str = "none") -> np.ndarray:
    """Which samples each chip gets right, ``[ages, chips, samples]``; the seed of the chips is the network's."""
    test = network.test
    trace = CrossbarRunner().run(
        built.artifact, dict(test.inputs), test.lengths,
        chips=chips, times=ages, seed=network.seed, repair=repair, repair_data=network.train,
    )  # fmt: skip
    program = built.program
    return np.stack([
        [
            correct(program, real_outputs(program, Trace({n: a[t, c] for n, a in trace.chip_outputs.items()})), test)
            for c in range(chips)
        ]
        for t in range(len(ages))
    ])  # fmt: skip


def spread(right: np.ndarray) -> str:
    """Median and 5 to 95 % of the accuracies of chips ``[chips, samples]``, in percent."""
    low, middle, high = np.percentile(100 * right.mean(axis=-1), (5, 50, 95))
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"


def spread_of(seeds: list[np.ndarray]) -> str:
    return spread(np.concatenate(seeds))


# ------------------------------------------------------------------------------------------------------ the parts


def ages(networks: list[Network], target: Crossbar, chips: int) -> dict[str, Any]:
    """Accuracy at four ages, with drift compensation where the target drifts."""
    rows, found = [], []
    for network in networks:
        built = compiler.compile(network.program, target, network.train)
        found.append(on_chips(built, network, chips, AGES))
        rows.append([str(network.seed), f"{network.percent:.2f}", *(spread(right) for right in found[-1])])
    mean = np.mean([n.percent for n in networks])
    rows.append(["all", f"{mean:.2f}", *(spread_of([f[t] for f in found]) for t in range(len(AGES)))])
    columns = ("seed", "float", *AGES)
    table(f"{NETWORKS[networks[0].kind][0]} on {target.name}: accuracy %, median (5-95 %) over chips", columns, rows,
          right=columns)  # fmt: skip
    return {"columns": columns, "rows": rows}


def effects(networks: list[Network], target: Crossbar, chips: int) -> dict[str, Any]:
    """Each effect alone and all but one, at the first read and after a year; the seeds' means."""
    out = {}
    for age in ("0s", "1y"):
        found = []
        for network in networks:
            built = compiler.compile(network.program, target, network.train)
            found.append(attribute(built.artifact, network.test, chips=chips, age=age, seed=network.seed))
        rows = [_words("none", [f.none for f in found], None), _words("all", [f.every for f in found], None)]
        rows += [_effect(effect, found) for effect in EFFECTS if _row(found[0], effect).alone is not None]
        rows[2:] = sorted(rows[2:], key=lambda row: -float(row[1].split()[0]))
        rows += [[e, "not in the target"] + [""] * 4 for e in EFFECTS if _row(found[0], e).alone is None]
        golden = 100 * float(np.mean([f.golden or 0.0 for f in found]))
        columns = ("effect", "error alone %", "share %", "accuracy alone %", "error without %", "accuracy without %")
        title = f"{NETWORKS[networks[0].kind][0]} on {target.name}, {age}, float {golden:.2f} %: mean +- sd over chips"
        table(title, columns, rows, right=columns[1:])
        out[age] = {"columns": columns, "rows": rows, "seeds": [f.as_dict() for f in found]}
    return out


def _row(found: Attribution, effect: str) -> Any:
    return next(row for row in found.rows if row.effect == effect)


def _pooled(seeds: list[Measured]) -> tuple[str, str]:
    """Error and accuracy in percent: the seeds' mean, and their mean spread over chips."""
    error, error_sd, score, score_sd = (
        100 * float(np.mean([getattr(m, name) for m in seeds])) for name in ("error", "error_sd", "score", "score_sd")
    )
    return f"{error:.1f} +- {error_sd:.1f}", f"{score:.2f} +- {score_sd:.2f}"


def _words(name: str, alone: list[Measured], share: float | None) -> list[str]:
    error, score = _pooled(alone)
    return [name, error, "" if share is None else f"{100 * share:.0f}", score, "", ""]


def _effect(effect: str, found: list[Attribution]) -> list[str]:
    rows = [_row(f, effect) for f in found]
    words = _words(effect, [r.alone for r in rows], float(np.mean([r.share for r in rows])))
    words[4:] = _pooled([r.without for r in rows])
    return words


def repairs(
    networks: list[Network], target: Crossbar, chips: int, epochs: int
) -> dict[str, Any]:  # fmt: skip
    """At one year: as trained and fine-tuned, with every repair; the fine-tuned float network first."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    floats: dict[str, list[float]] = {"as trained": [], "fine-tuned": []}
    notes = []
    for network in networks:
        programs = {"as trained": network.program}
        if epochs:
            start = time.perf_counter()
            tuned = fine_tune(network.program, target, network.train, epochs=epochs, seed=network.seed)
            notes.append(
                f"seed {network.seed}: {'epoch ' + str(tuned.best.epoch) if tuned.kept else 'nothing'} kept, held-out "
                f"loss {tuned.before.loss:.4f} -> {tuned.best.loss:.4f}, {time.perf_counter() - start:.0f} s"
            )
            programs["fine-tuned"] = tuned.program
        for name, program in programs.items():
            built = compiler.compile(program, target, network.train)
            plain = interpret.run(program, network.test.inputs, network.test.lengths)
            floats[name].append(100 * correct(program, real_outputs(program, plain), network.test).mean())
            for repair in REPAIRS:
                found.setdefault((name, repair), []).append(on_chips(built, network, chips, ("1y",), repair)[0])
    rows = []
    for (name, repair), seeds in found.items():
        near = sum(int((n.percent - 100 * r.mean(axis=1) <= 1.0).sum()) for n, r in zip(networks, seeds, strict=True))
        worse = sum(mcnemar(n.right, chip) < P and chip.mean() < n.right.mean()
                    for n, r in zip(networks, seeds, strict=True) for chip in r)  # fmt: skip
        total = chips * len(networks)
        by_seed = [f"{np.median(100 * r.mean(axis=1)):.1f}" for r in seeds]
        rows.append([name, f"{np.mean(floats[name]):.2f}", repair, spread_of(seeds), f"{near} of {total}",
                     f"{worse} of {total}", " ".join(by_seed)])  # fmt: skip
    columns = ("network", "float", "repair", "one year", "within 1 point", f"worse, p < {P}", "median by seed")
    baseline = np.mean([n.percent for n in networks])
    title = f"{NETWORKS[networks[0].kind][0]} on {target.name}, float as trained {baseline:.2f} %: after one year"
    table(title, columns, rows, right=columns[3:])
    if notes:
        print("\n".join(notes), f"\nfine-tuned at ages 0 and {YEAR:.4g} s, {epochs} epochs at most\n", flush=True)
    return {"columns": columns, "rows": rows, "fine_tuning": notes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="+", default=["ages", "effects", "repair"], choices=["ages", "effects", "repair"]
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--targets", nargs="+", default=["pcm-128", "rram-hfo2-128"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=15, help="of fine-tuning; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(precision.EXAMPLES))  # where the training scripts are
    targets = [hardware.find(name, Crossbar) for name in args.targets]
    out: dict[str, Any] = {}
    for kind in args.networks:
        networks = [Network.of(kind, seed) for seed in range(args.seeds)]
        for target in targets:
            found = out.setdefault(kind, {}).setdefault(target.name, {})
            for part in args.parts:
                start = time.perf_counter()
                if part == "ages":
                    found[part] = ages(networks, target, args.chips)
                elif part == "effects":
                    found[part] = effects(networks, target, max(2, args.chips // 4))
                else:
                    found[part] = repairs(networks, target, args.chips, args.epochs)
                print(f"[{part}: {time.perf_counter() - start:.0f} s]\n", flush=True)
                if args.json:
                    args.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
