"""What is installed: the wheel's data, dependencies that match the imports, exact pins, a Makefile that explains."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from neurodeploy import hardware

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Modules whose distribution has another name.
DISTRIBUTION = {"google": "protobuf", "elftools": "pyelftools", "serial": "pyserial", "sklearn": "scikit-learn"}
# What a user may have in place of one of our extras; never installed by us.
# Modules of compiled loops or of a framework's classes, imported inside functions only -> what they import at once.
WITH_AN_EXTRA = {
    "reference_kernel": {"numba"},
    "step_kernel": {"numba"},
    "snntorch_module": {"snntorch", "torch"},
    "snntorch_step_module": {"snntorch", "torch"},
    "snntorch_ops": {"torch"},
    "torch_program": {"torch"},
    "read_kernel": {"numba"},
}
USERS_OWN = {"tflite-runtime", "tensorflow", "keras", "aihwkit", "simulator"}  # the last is CrossSim's module


def _distribution(module: str) -> str:
    return canonicalize_name(DISTRIBUTION.get(module, module))


def _declared(extra: str | None = None) -> set[str]:
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name) for line in listed}


def _is_require(call: ast.Call) -> bool:
    return ast.unparse(call.func).rpartition(".")[2] == "require"


def _imports(tree: ast.Module) -> tuple[set[str], ...]:
    """Third-party distributions imported when the module is, and those imported later or for types only."""

    def visit(node: ast.AST, lazy: bool):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found[lazy].update(alias.name.partition(".")[0] for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0 and child.module:
                found[lazy].add(child.module.partition(".")[0])
            elif isinstance(child, ast.Call) and _is_require(child):
                found[True].update(
                    str(a.value).partition(".")[0] for a in child.args[:1] if isinstance(a, ast.Constant)
                )
            inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            types_only = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            visit(child, lazy or inner or types_only)

    found: dict[bool, set[str]] = {False: set(), True: set()}
    visit(tree, False)
    known = sys.stdlib_module_names | {"neurodeploy", "__future__"}
    return tuple({str(_distribution(name)) for name in found[lazy] - known} for lazy in (False, True))


SOURCES = sorted((ROOT / "neurodeploy").rglob("*.py"))


def test_imports_match_the_dependencies():
    """A module's own imports are core dependencies; what functions import is in the core or in some extra."""
    assert len(SOURCES) > 5
    core = _declared()
    every = core.union(*(_declared(extra) for extra in PROJECT["optional-dependencies"])) | USERS_OWN
    wrong = []
    for path in SOURCES:
        eager, later = _imports(ast.parse(path.read_text()))
        own = WITH_AN_EXTRA.get(path.stem, set())
        eager, later = eager - own, later | own
        wrong += [f"{path.relative_to(ROOT)} imports {name}: not in the core" for name in sorted(eager - core)]
        wrong += [f"{path.relative_to(ROOT)} imports {name}: in no extra" for name in sorted(later - every)]
    assert wrong == []


def test_modules_that_need_an_extra_are_imported_inside_functions():
    assert set(WITH_AN_EXTRA) <= {path.stem for path in SOURCES}
    for path in (p for p in SOURCES if p.stem not in WITH_AN_EXTRA):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                names = {*str(node.module).split("."), *(alias.name for alias in node.names)}
                assert not names & set(WITH_AN_EXTRA), f"{path.relative_to(ROOT)}:{node.lineno} imports one at once"


def test_required_extras_exist():
    """Every extra that an error message tells the user to install is one that exists and holds the package."""
    seen = 0
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and _is_require(call)):
                continue
            arguments = [a.value for a in call.args[:2] if isinstance(a, ast.Constant)]
            if len(arguments) == 2:
                module, extra = (str(a) for a in arguments)
                seen += 1
                assert extra in PROJECT["optional-dependencies"], f"{path}:{call.lineno} names an extra '{extra}'"
                assert _distribution(module.partition(".")[0]) in _declared(extra), f"{path}:{call.lineno}"
    if not seen:
        pytest.skip("no module calls errors.require with literal names")


def test_every_dependency_is_pinned_within_its_bounds():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(names)
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert len(pins) == len(lines)
    python311 = {"python_version": "3.11", "python_full_version": "3.11.9"}
    listed = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    for line in listed:
        wanted = Requirement(line)
        if wanted.name == "neurodeploy" or (wanted.marker and not wanted.marker.evaluate(python311)):
            continue
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)], prereleases=True), line


def test_the_makefile_installs_the_pinned_torch():
    pinned = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    asked = re.search(r"^TORCH := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned and asked
    assert asked.group(1) == pinned.group(0)


def test_torch_is_no_core_dependency():
    assert _declared().isdisjoint({"torch", "brian2", "snntorch", "ai-edge-litert", "tflite-micro"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked as an installation would lay it out."""
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling isn't installed (extra 'dev')")
    out = tmp_path_factory.mktemp("wheel")
    (built,) = builder.WheelBuilder(str(ROOT)).build(directory=str(out), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        archive.extractall(out / "site")
    return out / "site"


@pytest.mark.parametrize("folder", ["targets", "firmware"])
def test_the_wheel_holds_the_data(wheel: Path, folder: str):
    shipped = [p for p in (ROOT / folder).rglob("*") if p.suffix in {".toml", ".c", ".h", ".ld", ".S"}]
    assert shipped
    for path in shipped:
        packed = wheel / "neurodeploy" / "_data" / path.relative_to(ROOT)
        assert packed.read_bytes() == path.read_bytes()


def test_the_wheel_holds_the_whole_package(wheel: Path):
    """Templates and all: what is ignored by git would silently stay out of it."""
    files = [p for p in (ROOT / "neurodeploy").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert [str(p.relative_to(ROOT)) for p in files if not (wheel / p.relative_to(ROOT)).exists()] == []


def test_the_wheel_holds_no_tests(wheel: Path):
    names = {p.name for p in wheel.iterdir()}
    assert (wheel / "neurodeploy" / "py.typed").exists()
    assert {n for n in names if not n.endswith(".dist-info")} == {"neurodeploy"}


def test_an_installed_package_finds_its_data(wheel: Path, tmp_path: Path):
    """Installed: under ``_data``. In the checkout (the other tests): at its root."""
    code = (
        "from neurodeploy import hardware; print(hardware.data_folder('targets')); "
        "print(hardware.data_folder('firmware')); print(*hardware.names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(wheel)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    data = wheel.resolve() / "neurodeploy" / "_data"
    assert done.stdout.splitlines() == [str(data / "targets"), str(data / "firmware"), " ".join(hardware.names())]
    assert hardware.data_folder("targets") == ROOT / "targets"


def test_data_that_is_missing_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(hardware, "__file__", str(tmp_path / "neurodeploy" / "hardware.py"))
    with pytest.raises(hardware.TargetError, match="the folder 'targets' is neither in the package"):
        hardware.data_folder("targets")


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make isn't installed")


@needs_make
def test_make_alone_says_what_can_be_made():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "setup", "lint", "clean"):
        assert re.search(rf"^  make {target} +\w", done.stdout, re.MULTILINE)


@needs_make
def test_make_without_a_python_that_fits_says_so(tmp_path: Path):
    done = subprocess.run(
        ["make", "setup", f"VENV={tmp_path}/venv", "PYTHON=no-such-python"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "No Python that fits: looked for no-such-python; needed: 3.11 to 3.13 with venv." in done.stderr
    assert "make setup PYTHON=" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_scripts_name_no_machine():
    """The build says nothing of the machine that it was written on."""
    for name in ("Makefile", ".ci/run", "pyproject.toml", "constraints.txt", ".gitignore"):
        text = (ROOT / name).read_text()
        assert not re.search(r"/(work|root|home|opt)/|index-url|find-links|https?://(?!keep|semver)", text), name
