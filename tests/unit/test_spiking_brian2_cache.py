"""What runs Brian2 scripts: the cache, processes at once, and what goes wrong. Stand-in scripts compile nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from neurodeploy.errors import BuildError, DataError, MissingExtraError, NumericsError, UsageError
from neurodeploy.spiking import brian2_run
from neurodeploy.spiking.brian2_run import Brian2, Compiler, _hashes, _put, cache_folder

#: Does what a generated script does on its command line: builds (a line in a log), and runs what was built.
SCRIPT = """
import pathlib, sys
import numpy as np
arguments = sys.argv[1:]
if "--build" in arguments:
    BUILD
    folder = pathlib.Path(arguments[arguments.index("--build") + 1]) / "net"
    (folder / "static_arrays").mkdir(parents=True)
    (folder / "main").write_text("2")
    (folder / "main.o").write_text("of no use")
    with open(LOG, "a") as log:
        log.write("built\\n")
else:
    RUN
    factor = 1
    if "--built" in arguments:
        factor = int((pathlib.Path(arguments[arguments.index("--built") + 1]) / "net" / "main").read_text())
    np.savez(arguments[1], y=factor * np.load(arguments[0])["x"])
"""


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURODEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(brian2_run, "brian2_version", lambda: "2.9.0")
    monkeypatch.setattr(brian2_run, "find_compiler", lambda: Compiler("c++", "c++ 1.0"))
    return tmp_path / "log"


def _files(log, build: str = "pass", run: str = "pass", note: str = "") -> dict[str, bytes]:
    text = SCRIPT.replace("LOG", repr(str(log))).replace("BUILD", build).replace("RUN", run)
    return {"network.py": (text + note).encode(), "data.npz": b"data"}


def _run(files, frames: int = 8, codegen: str = "auto") -> tuple[Brian2, np.ndarray]:
    brian2 = Brian2(codegen)
    return brian2, brian2.run_script(files, {"x": np.arange(3)}, frames)["y"]


def _builds(log) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_built_once_and_kept_by_content(log):
    first, y = _run(_files(log))
    again, same = _run(_files(log))
    assert _builds(log) == 1 and y.tolist() == same.tolist() == [0, 2, 4]
    assert first.run.build_seconds is not None and again.run.build_seconds is None
    (place,) = cache_folder().iterdir()
    assert not (place / "built" / "net" / "main.o").exists() and (place / "built" / "net" / "main").exists()
    _run(_files(log, note="# another script"))
    _run({**_files(log), "data.npz": b"other data"})
    _run(_files(log), frames=16)
    assert _builds(log) == 4
    _run(_files(log))
    assert _builds(log) == 4


def test_another_version_is_another_build(log, monkeypatch):
    _run(_files(log))
    monkeypatch.setattr(brian2_run, "brian2_version", lambda: "2.10.0")
    _run(_files(log))
    monkeypatch.setattr(brian2_run, "find_compiler", lambda: Compiler("c++", "c++ 2.0"))
    assert _run(_files(log))[0].run.engine == "Brian2 2.10.0, C++ standalone (c++ 2.0, -O2 -ffp-contract=off)"
    assert _builds(log) == 3


@pytest.mark.parametrize("harm", ["changed", "missing", "no seal", "bad seal"])
def test_a_broken_build_is_made_again(log, harm):
    _run(_files(log))
    (place,) = cache_folder().iterdir()
    main, seal = place / "built" / "net" / "main", place / "seal.json"
    {"changed": lambda: main.write_text("3"), "missing": main.unlink, "no seal": seal.unlink,
     "bad seal": lambda: seal.write_text("{")}[harm]()  # fmt: skip
    assert _run(_files(log))[1].tolist() == [0, 2, 4]
    assert _builds(log) == 2 and len(list(cache_folder().iterdir())) == 1


def test_what_a_killed_process_left_goes_after_a_day(log):
    old, new = (cache_folder() / f".building-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (1e9, 1e9))
    _run(_files(log))
    assert not old.exists() and new.exists()


def test_two_processes_at_once(log, tmp_path):
    """Both build beside, one puts its own in place; both get the right numbers, and nothing is left over."""
    code = f"""
        import numpy as np
        from neurodeploy.spiking import brian2_run as b
        b.brian2_version = lambda: "2.9.0"
        b.find_compiler = lambda: b.Compiler("c++", "c++ 1.0")
        print(b.Brian2().run_script({_files(log, build="import time; time.sleep(0.5)")!r}, {{"x": np.arange(3)}}, 8)["y"])
    """
    both = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)]  # fmt: skip
    assert [process.communicate()[0] for process in both] == ["[0 2 4]\n"] * 2
    assert len(list(cache_folder().iterdir())) == 1


def test_a_build_that_came_first_is_kept(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main").write_text(name)
        (tmp_path / name / "seal.json").write_text(brian2_run.json.dumps(_hashes(tmp_path / name)))
    _put(tmp_path / "first", tmp_path / "place")
    _put(tmp_path / "second", tmp_path / "place")
    assert (tmp_path / "place" / "main").read_text() == "first"


def test_without_a_compiler(log, monkeypatch):
    monkeypatch.setattr(brian2_run, "find_compiler", lambda: None)
    brian2, y = _run(_files(log))
    assert y.tolist() == [0, 1, 2] and _builds(log) == 0
    assert brian2.run.engine == "Brian2 2.9.0, NumPy code"
    assert brian2.run.warnings == ("no C++ compiler and make were found: Brian2 ran its slower NumPy code.",)
    assert _run(_files(log), codegen="numpy")[0].run.warnings == ()
    with pytest.raises(MissingExtraError, match="no C\\+\\+ compiler and make .* use codegen='numpy'"):
        _run(_files(log), codegen="cpp")


def test_no_compiler_is_found_on_an_empty_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert brian2_run.find_compiler() is None


def test_what_goes_wrong_is_said(log, tmp_path, monkeypatch):
    failing = "sys.exit('tick.cpp:3: error: no such thing')"
    with pytest.raises(BuildError, match="tick.cpp:3: error: no such thing .*codegen='numpy'"):
        _run(_files(log, build=failing))
    assert not list(cache_folder().iterdir())
    with pytest.raises(NumericsError, match="diverged"):
        _run(_files(log, run="sys.exit('the network diverged: a membrane is infinite')"))
    with pytest.raises(DataError, match="ValueError: odd"):
        _run(_files(log, run="raise ValueError('odd')"))
    with pytest.raises(UsageError, match="codegen is 'fast'; needed auto, cpp, numpy"):
        Brian2("fast")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEURODEPLOY_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="Set NEURODEPLOY_CACHE"):
        _run(_files(log))


def test_without_brian2(monkeypatch):
    monkeypatch.setitem(sys.modules, "brian2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'neurodeploy\[spiking\]'"):
        brian2_run.brian2_version()


def test_the_cache_stands_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("NEURODEPLOY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "neurodeploy" / "brian2"
    monkeypatch.setenv("NEURODEPLOY_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "brian2"
