"""benchmarks.client_memory: a worker's memory is measured in a process of its own, for each number of clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import client_memory


def test_a_worker_is_measured_with_every_client(
    tiny_folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"the bank {number}", "label": number % 2} for number in range(40)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    real = client_memory.parse_experiment
    monkeypatch.setattr(client_memory, "parse_experiment", lambda tree: real({**tree, "model": tiny_folder("bert")}))
    client_memory.write_order(tmp_path, 4, str(tmp_path / "x.jsonl"), "fp32")
    found = client_memory.measure(tmp_path)
    assert found["records"] == 28 and found["tokens"] > 28 * 16
    assert found["begun"] > 0 and found["prepared"] > 0 and found["trained"] > 0
