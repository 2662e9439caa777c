"""How torch's threads behave: what their libraries are told before they load, and small work in single threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from federa.compute_threads import environment_threads, in_single_threads
from federa.cores import count_cores
from federa.methods.decomposition import principal_factors

VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
# The command's own beginning, with torch loaded where it would be. OpenMP says what it took from the environment.
COORDINATOR = """
import asyncio, os, sys
from coordinator import main
assert "torch" not in sys.modules
async def serve(*arguments):
    import torch
    print(torch.get_num_threads())
    return 0
main._serve = serve
sys.exit(main.main(["--serve", "--out", sys.argv[1]]))
"""


def run(command: list[str], **environment: str) -> tuple[str, str]:
    """What a process of that environment prints, and what OpenMP took."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ended = subprocess.run(
        [sys.executable, *command],
        env={**kept, "OMP_DISPLAY_ENV": "VERBOSE", **environment},
        capture_output=True,
        text=True,
    )
    assert ended.returncode in (0, 1), ended.stderr
    if "GOMP_SPINCOUNT" not in ended.stderr:
        pytest.skip("this torch computes with another OpenMP than GNU's")
    return ended.stdout, ended.stderr.replace("[host] ", "")


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["-c", COORDINATOR, str(tmp_path_factory.mktemp("out"))]


def test_a_coordinators_threads_wait_passively_one_a_core(coordinator: list[str]) -> None:
    out, openmp = run(coordinator)
    assert out.split()[-1] == str(count_cores().count)
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in openmp
    assert "GOMP_SPINCOUNT = '0'" in openmp


def test_the_users_own_environment_stands(coordinator: list[str]) -> None:
    out, openmp = run(coordinator, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="ACTIVE")
    assert out.split()[-1] == "1"
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in openmp
    _, openmp = run(coordinator, GOMP_SPINCOUNT="500")
    assert "GOMP_SPINCOUNT = '500'" in openmp


def test_a_workers_threads_wait_passively(tmp_path) -> None:
    # Nothing is there that could be called; torch is loaded all the same.
    command = ["-m", "edge.main", "--check", "--power", "none", "--state", str(tmp_path), "--cache", str(tmp_path)]
    _, openmp = run(command, HOME=str(tmp_path))
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in openmp


@pytest.mark.parametrize(
    ("text", "threads"), [("4", 4), ("", 0), ("0", 0), ("4,2", 0), ("-1", 0), ("many", 0), ("1000000", 0)]
)
def test_the_number_of_threads_that_the_environment_says(monkeypatch, text: str, threads: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert environment_threads() == threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert environment_threads() == 0


@pytest.fixture
def three_threads():
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


def test_small_work_is_done_in_order_each_piece_with_one_thread(three_threads) -> None:
    pieces = in_single_threads(lambda number: (number, torch.get_num_threads()), range(20), 4)
    assert pieces == [(number, 1) for number in range(20)]
    assert torch.get_num_threads() == 3


def test_an_error_in_small_work_comes_out_and_the_threads_are_as_before(three_threads) -> None:
    with pytest.raises(ZeroDivisionError):
        in_single_threads(lambda number: 1 // number, [1, 0, 2], 2)
    assert torch.get_num_threads() == 3


def test_factors_do_not_depend_on_the_number_of_threads(three_threads) -> None:
    weights = [torch.randn(96, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]

    def factors(threads: int):
        torch.set_num_threads(threads)
        return in_single_threads(lambda weight: principal_factors(weight, 8, 2.0), weights, 4)

    for one, other in zip(factors(1), factors(3), strict=True):
        assert all(map(torch.equal, one, other))
