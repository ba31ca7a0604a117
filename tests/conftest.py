"""What every test shares: hypothesis that draws the same examples each time, and which board to run on."""

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--board", default="mps2-an386", help="target that tests marked 'board' run on")
    parser.addoption("--port", default=None, help="serial port or URL of a real board; without it an emulator")
