"""benchmarks.threads: its ratios, and its processes with a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import threads


@pytest.mark.parametrize(("busy_s", "auto_ms", "code"), [(0.6, 110.0, 0), (0.9, 110.0, 1), (0.6, 130.0, 1)])
def test_ratios_are_of_medians_and_those_above_their_figure_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    busy_s: float,
    auto_ms: float,
    code: int,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # put back afterwards
    quiet_s = iter((0.4, 0.1, 0.5))
    monkeypatch.setattr(threads, "start_s", lambda model, folder, busy, spinning: busy_s if busy else next(quiet_s))
    monkeypatch.setattr(threads, "step_ms", lambda model, count, folder, env: auto_ms if count == "auto" else 100.0)
    file = tmp_path / "threads.json"
    assert threads.main(["--turns", "3", "--check", "--json", str(file)]) == code
    rows = {row["what"]: row for row in json.loads(file.read_text())["rows"]}
    assert list(rows) == [
        "start, quiet", "start, beside a busy process", "step, --threads set right", "step, --threads auto",
    ]  # fmt: skip
    assert rows["start, quiet"]["seconds"] == [0.4, 0.1, 0.5]
    assert rows["start, beside a busy process"]["ratio"] == pytest.approx(busy_s / 0.4)
    assert rows["step, --threads auto"]["ratio"] == pytest.approx(auto_ms / 100)
    assert ("not held: " in capsys.readouterr().err) == bool(code)


@pytest.mark.slow
def test_the_start_is_timed_in_a_process_of_its_own(tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    assert threads.start_s(tiny_folder("bert"), tmp_path, busy=True, spinning=False) > 0


def test_bad_arguments_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert threads.main(["--turns", "0"]) == 2
    assert "--turns: must be 1 or more, not 0" in capsys.readouterr().err
