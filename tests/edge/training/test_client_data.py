"""What a device reads of its clients: each record in the part that the coordinator meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.evaluation.run_data import read_run_data
from edge.training.client_data import load_client_data
from edge.training.run_order import RunOrder
from federa.config import parse_experiment, parse_json
from federa.errors import BadInput


def _write(path: Path, name: str, count: int) -> str:
    rows = [{"text": f"{name} {number}", "label": ("a", "b")[number % 2]} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {
        "source": _write(tmp_path / "train.jsonl", "train", 40),
        "test_file": _write(tmp_path / "test.jsonl", "test", 10),
    }


def _order(data: dict[str, Any], evaluation: str) -> RunOrder:
    config = parse_experiment({"data": data, "evaluation": evaluation, "federation": {"clients": 3, "devices": 1}})
    found = read_run_data(config)
    shards, _ = found.deal(None)
    return RunOrder(
        run_id="run",
        experiment_json=found.experiment.model_dump_json(),
        base_digest="",
        data_digest=found.digest,
        shards=dict(enumerate(shards)),
    )


def _texts(order: RunOrder, file: Path | None = None) -> dict[tuple[int, str], set[str]]:
    config = parse_json(order.experiment_json)
    parts = load_client_data(order, config, config.make_task(), file)
    return {slot: {record[0] for record in dataset.records} for slot, dataset in parts.items()}


def test_given_parts_are_told_from_what_is_split_off(files: dict[str, str]) -> None:
    found = _texts(_order(files, "devices"))
    assert all(text.startswith("test") == (part == "test") for (_, part), texts in found.items() for text in texts)
    every = [text for texts in found.values() for text in texts]
    assert len(every) == len(set(every)) == 50
    assert sum(len(texts) for (_, part), texts in found.items() if part == "test") == 10
    assert 3 <= sum(len(texts) for (_, part), texts in found.items() if part == "validation") <= 9
    assert all(found[client, "training"] for client in range(3))


def test_where_the_coordinator_evaluates_its_files_are_not_read(files: dict[str, str]) -> None:
    order = _order(files, "coordinator")
    Path(files["test_file"]).unlink()
    found = _texts(order)
    assert {part for _, part in found} == {"training"} and sum(map(len, found.values())) == 34


def test_other_data_are_refused(files: dict[str, str]) -> None:
    order = _order(files, "devices")
    with pytest.raises(BadInput, match=r"train\.jsonl here is not the data set that the coordinator dealt out"):
        _texts(replace(order, data_digest="0"))
    _write(Path(files["test_file"]), "others", 10)
    with pytest.raises(BadInput, match="here is not the data set that the coordinator dealt out"):
        _texts(order)


def test_a_device_s_own_file_is_split_by_the_fractions(files: dict[str, str], tmp_path: Path) -> None:
    own = Path(_write(tmp_path / "own.jsonl", "own", 40))
    order = replace(_order(files, "devices"), shards={0: []})
    found = _texts(order, own)
    assert {part: len(texts) for (_, part), texts in found.items()} == {"training": 28, "validation": 6, "test": 6}
    assert {
        slot: len(texts) for slot, texts in _texts(replace(_order(files, "coordinator"), shards={0: []}), own).items()
    } == {(0, "training"): 40}
