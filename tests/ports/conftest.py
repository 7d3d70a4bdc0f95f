"""How many cases to compare."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases", type=int, default=150, help="how many cases the reference and a package are compared on"
    )


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--cases")
