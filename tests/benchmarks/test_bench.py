"""federa-bench's folder for results, where none is named."""

from __future__ import annotations

from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from benchmarks import bench
from protos.federation_pb2 import Outcome


def test_of_those_that_begin_in_one_second_each_has_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Stopped:
            return cls(2026, 5, 4, 3, 2, 1)

    async def run_to_end(record: object, out: Path, **options: object) -> Outcome:
        used.append(str(out))
        return Outcome()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "datetime", Stopped)
    monkeypatch.setattr(bench, "run_to_end", run_to_end)
    for _ in range(3):
        assert bench.main(["--coordinator", "127.0.0.1:9"]) == 0
    assert used == [f"runs/20260504-030201{end}" for end in ("", "-2", "-3")]
