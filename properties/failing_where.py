"""A failure that says where it happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def failing_where(where: str) -> Iterator[None]:
    """Put where a failure happened before what it says; nothing if `where` is empty."""
    __tracebackhide__ = True
    try:
        yield
    except AssertionError as failure:
        raise AssertionError(f"{where}: {failure}" if where else str(failure)) from None
