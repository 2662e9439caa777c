"""A run whose devices lack the base model: real processes, the model in a place that only the coordinator can see."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from processes import ROOT, Process, ended, listening, result_of
from safetensors.torch import load_file
from tiny_models import READS_BIN

WORDS = {"sport": ("match", "team", "goal"), "money": ("bank", "market", "shares")}


def _as_bin(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _process(folder: Path, *arguments: str) -> Process:
    """A command of ours that runs in `folder`, and finds there what is named without a path."""
    return Process([*arguments], folder, env={"PYTHONPATH": str(ROOT)}, prefix=["env", "-C", str(folder)])


@pytest.mark.parametrize(("architecture", "methods"), [("bert", ["federa", "lora"]), ("deberta-v3", ["federa"])])
def test_a_worker_without_the_base_model_gets_it_from_the_coordinator_and_reaches_the_end(
    tmp_path: Path, tiny_folder: Callable[[str], str], architecture: str, methods: list[str]
) -> None:
    if architecture == "deberta-v3" and not READS_BIN:
        pytest.skip("transformers reads no pytorch_model.bin with a torch below 2.6")
    here, there = tmp_path / "coordinator", tmp_path / "device"
    there.mkdir()
    model = Path(shutil.copytree(tiny_folder(architecture), here / "models" / "tiny"))
    if architecture == "deberta-v3":
        _as_bin(model)
    documents = tmp_path / "documents.jsonl"
    rows = [
        {"text": f"the {WORDS[label][index % 3]} {index}", "label": label} for index in range(40) for label in WORDS
    ]
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = {
        "methods": [{"name": method} for method in methods],
        "model": "models/tiny",
        "data": {"source": str(documents), "max_length": 16},
        "federation": {"devices": 1, "clients": 2, "clients_per_round": 2, "rounds": 1},
        "training": {"precision": "fp32"},
        "lora": {"r": 4},
        "target": {"value": 1.0},
    }
    (here / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    coordinator = _process(
        here, "-m", "coordinator.main", "--experiment", "experiment.yaml", "--out", "out", "--listen", "127.0.0.1:0"
    )
    with ended(coordinator):
        worker = _process(
            there, "-m", "edge.main", "--coordinator", listening(coordinator), "--name", "ada", "--threads", "1",
            "--power", "none", "--state", "keys", "--cache", "cache",
        )  # fmt: skip
        with ended(worker):
            assert coordinator.wait() in (0, 3), coordinator.err
            assert worker.err.count("fetching the base model") == 1, worker.err
    runs = result_of(here / "out")["runs"]
    assert [(run["method"], run["rounds"], run["state"]) for run in runs] == [
        (method, 1, "finished") for method in methods
    ]  # fmt: skip
    (cached,) = (path for path in (there / "cache" / "models").iterdir() if path.is_dir())
    held = sum(path.stat().st_size for path in cached.iterdir())
    assert "model.safetensors" in {path.name for path in cached.iterdir()}
    # Once for all runs, counted apart from the states, of which one went down for each.
    assert held <= runs[0]["model_bytes"] <= held * 1.02 + 1000
    assert all(run["model_bytes"] == 0 for run in runs[1:])
    assert all(run["bytes_down"] < 1.1 * run["state_bytes"] + 1000 for run in runs)
    for ledger in (here / "out").rglob("ledger.sqlite"):
        database = sqlite3.connect(ledger)
        assert database.execute("SELECT count(*) FROM contribution").fetchone() == (2,)
        (seconds,) = database.execute(
            "SELECT sum(seconds) FROM phase WHERE round = 0 AND phase = 'download'"
        ).fetchone()  # of the first run alone
        assert (seconds is None) == ("lora" in str(ledger))
    assert not list((here / "out").rglob("model/model.safetensors"))  # not kept twice
