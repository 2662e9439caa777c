"""federa.read_result: typed, read-only, and refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from federa import read_result
from federa.errors import BadInput

POINT = {"round": 1, "elapsed_s": 2.5, "value": 0.91, "bytes_down": 10, "bytes_up": 20, "energy_j": None, "examples": 7}
DEVICE: dict[str, Any] = {
    "name": "orin-1", "board": None, "power_source": None, "scope": None, "idle_w": None, "peak_w": None,
    "energy_j": None, "coverage": None, "largest_gap_s": None, "seconds": {"train": 2.0}, "joules": {"train": None},
    "step_ms": {"p50": 3.0, "p95": 4.0, "p99": 5.0}, "facts": {"l4t": "36.4"},
}  # fmt: skip
RUN: dict[str, Any] = {
    "method": "federa", "seed": 0, "learning_rate": 0.01, "bandwidth": None, "metric": "accuracy", "target": 0.9,
    "reached": True, "time_to_target_s": 2.5, "rounds": 1, "rounds_to_target": 1, "bytes_to_target": 30,
    "joules_to_target": None, "best": 0.91, "test": 0.9, "trainable_parameters": 5, "state_bytes": 20,
    "bytes_down": 10, "bytes_up": 20, "curve": [POINT], "devices": [DEVICE], "config": {"seed": 0}, "wire": "int8",
}  # fmt: skip


def written(folder: Path, *runs: dict[str, Any], schema: object = 1) -> Path:
    (folder / "result.json").write_text(json.dumps({"schema": schema, "environment": {}, "runs": runs}))
    return folder


def test_the_keys_of_the_schema_and_added_ones_are_attributes(tmp_path):
    result = read_result(written(tmp_path, RUN))
    run = result.run("federa")
    assert result.runs == (run,) and result.schema_version == 1
    assert (run.reached, run.rounds, run.bytes_to_target, run.joules_to_target) == (True, 1, 30, None)
    assert (run.curve[0].value, run.curve[0].examples) == (0.91, 7)
    assert (run.devices[0].seconds["train"], run.devices[0].step_ms.p95) == (2.0, 4.0)
    assert run.wire == "int8" and run.data is None
    with pytest.raises(KeyError):
        result.run("ft")
    assert read_result(tmp_path / "result.json") == result == read_result(str(tmp_path))


def test_the_classes_are_typed_and_in_their_order(tmp_path):
    classes = [{"name": name, "documents": count, "test": 1} for name, count in (("2", 7), ("10", None))]
    data = {"documents": None, "parts": {"training": 5, "validation": 1, "test": 1}, "classes": classes}
    found = read_result(written(tmp_path, {**RUN, "data": data})).runs[0].data
    assert found is not None and found.classes is not None and found.parts is not None
    assert [(entry.name, entry.documents) for entry in found.classes] == [("2", 7), ("10", None)]
    assert (found.documents, found.parts["training"], found.classes[0].test) == (None, 5, 1)


def test_metrics_cut_records_and_clients_are_typed(tmp_path):
    clients = {"classes": ["a", "b"], "counts": [[1, 2], [3, 4]], "by": "classes"}
    run = {
        **RUN,
        "curve": [{**POINT, "metrics": {"accuracy": 0.91, "macro_f1": None}}],
        "test_metrics": {"accuracy": 0.9},
        "data": {"documents": 10, "parts": None, "classes": None, "clients": clients},
        "cut": {"max_length": 64, "devices": {"records": 9, "cut": 2}, "coordinator": None},
        "skew": {"least": 3, "median": 5.0, "most": 7, "distance": 0.25},
    }
    found = read_result(written(tmp_path, run)).runs[0]
    assert found.curve[0].metrics == {"accuracy": 0.91, "macro_f1": None} and found.test_metrics == {"accuracy": 0.9}
    assert found.data is not None and found.data.clients is not None and found.data.clients.counts == ((1, 2), (3, 4))
    assert found.cut is not None and found.cut.devices is not None and found.cut.devices.cut == 2
    assert found.skew is not None and (found.skew.median, found.skew.distance, found.best_metrics) == (5.0, 0.25, None)
    older = read_result(written(tmp_path, RUN)).runs[0]
    assert older.cut is older.skew is older.test_metrics is older.curve[0].metrics is None


def test_what_was_read_cannot_be_changed(tmp_path):
    run = read_result(written(tmp_path, RUN)).runs[0]
    with pytest.raises(ValueError, match="frozen"):
        run.reached = False


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is damaged: Expecting property name"),
        ("[]", "has schema None; this federa reads 1"),
        ('{"schema": 2}', "has schema 2; this federa reads 1"),
        ('{"schema": 99, "environment": {}, "runs": []}', "has schema 99; this federa reads 1"),
        ('{"schema": true, "environment": {}, "runs": []}', "has schema True; this federa reads 1"),
        ('{"schema": "1", "environment": {}, "runs": []}', "has schema '1'; this federa reads 1"),
        ('{"schema": 1, "environment": {}}', "is damaged: it must hold a list of runs"),
        ('{"schema": 1, "environment": {}, "runs": [1]}', "is damaged: it must hold a list of runs"),
        ('{"schema": 1, "environment": {"a": NaN}, "runs": []}', "is damaged: NaN is no number of JSON"),
        ('{"schema": 1, "environment": {}, "runs": [{}]}', "is damaged: runs.0.method: must be given"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(tmp_path, text, why):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_result(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'result.json'} ") and why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"holds no result\.json; it must be the folder of a run that has ended"):
        read_result(tmp_path)


def test_importing_the_package_loads_none_of_what_its_names_need():
    heavy = "('torch', 'transformers', 'pydantic', 'yaml', 'grpc')"
    code = f"import sys, federa, coordinator; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
