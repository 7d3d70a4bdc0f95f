"""A worker process that is overdue is known from outside."""

from __future__ import annotations

import time

from detr_conformance.isolation.deadline import Deadline, is_overdue


def test_it_is_over_once_its_time_has_come(tmp_path):
    path = tmp_path / "deadline"
    assert not is_overdue(path), "there is none yet"
    deadline = Deadline(path)
    assert not is_overdue(path), "nothing is waited for"
    deadline.set(60.0)
    assert not is_overdue(path)
    deadline.set(0.0)
    time.sleep(0.01)
    assert is_overdue(path)
    deadline.clear()
    assert not is_overdue(path)


def test_half_a_file_is_no_deadline(tmp_path):
    path = tmp_path / "deadline"
    path.write_bytes(b"abc")
    assert not is_overdue(path)
