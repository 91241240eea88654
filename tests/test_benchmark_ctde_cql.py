"""The benchmark of CTDE-CQL: it runs. What it measures is no test's matter."""

from collections.abc import Iterator

import pytest
import torch

from rllib_wireless.benchmarks import ctde_cql
from rllib_wireless.benchmarks.peers.d3rlpy import VARIABLE, find_d3rlpy
from rllib_wireless.errors import UserError


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_gradient_step_is_compared_with_a_bare_loop() -> None:
    rows = ctde_cql.run(quick=True)
    assert [row["target"] for row in rows if "bare torch loop" in (row["peer"] or "")] == [1.2]
    assert all(row["value"] > 0 for row in rows)


def test_a_python_without_d3rlpy_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_d3rlpy() is None
    monkeypatch.setenv(VARIABLE, "/nonexistent/python")
    with pytest.raises(UserError, match=f"{VARIABLE}=/nonexistent/python"):
        find_d3rlpy()
