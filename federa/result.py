"""A run's result.json as typed, read-only objects: what docs/result-schema.md describes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federa.errors import BadInput, one_line, shown
from federa.field_error import reason_of
from federa.regular_file import open_regular

SCHEMA = 1
_FILE = "result.json"


class _Part(BaseModel):
    """A frozen part of a result. Keys that a later version added are attributes too."""

    # Not strict: JSON writes 1.0 as 1 where another program made it.
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Point(_Part):
    """The state after a round. Everything but `value` is cumulative."""

    round: int
    elapsed_s: float
    value: float
    bytes_down: int
    bytes_up: int
    energy_j: float | None
    metrics: dict[str, float | None] | None = None
    """All metrics of the task, by name. None where they are not known."""


class StepTimes(_Part):
    """Milliseconds of an optimizer step; None where none was timed."""

    p50: float | None
    p95: float | None
    p99: float | None


class DeviceResult(_Part):
    """What a device did in the rounds. `seconds` and `joules` are by phase; what was not measured is None."""

    name: str
    board: str | None
    power_source: str | None
    scope: str | None
    idle_w: float | None
    peak_w: float | None
    energy_j: float | None
    coverage: float | None
    largest_gap_s: float | None
    seconds: dict[str, float]
    joules: dict[str, float | None]
    step_ms: StepTimes


class ClassCount(_Part):
    """A class, and how many records of it there are: None where they stay on the devices."""

    name: str
    documents: int | None


class ClientClasses(_Part):
    """What each client has of each class: `counts` has a row for each client and a column for each of `classes`. `by`
    says what these are: classes, clusters, or documents without any."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    by: str


class DataResult(_Part):
    """What a run read. `parts` has the records to train on, for validation and for the test; `classes` are in their
    order, and None for a task without any."""

    documents: int | None
    parts: dict[str, int] | None
    classes: tuple[ClassCount, ...] | None
    clients: ClientClasses | None = None
    """None where it is not known, or more than a result holds."""


class CutCount(_Part):
    """Of so many records, how many lost tokens."""

    records: int
    cut: int


class CutResult(_Part):
    """How many records have more than `max_length` tokens and were cut: of those on the devices, and of those that the
    coordinator holds out. None where nobody counted."""

    max_length: int | None
    devices: CutCount | None
    coordinator: CutCount | None


class SkewResult(_Part):
    """How unlike the clients' data are: the records of a client, and the mean total variation distance of the clients'
    mixes of classes from that of all. None where it is not known."""

    least: int | None
    median: float | None
    most: int | None
    distance: float | None


class RunResult(_Part):
    """One method's run. What was not reached or not measured is None.

    More than 15 attributes: they are the keys of a run in result.json, whose names are fixed.
    """

    method: str
    seed: int
    learning_rate: float
    bandwidth: float | None
    metric: str
    target: float
    reached: bool
    time_to_target_s: float | None
    rounds: int
    rounds_to_target: int | None
    bytes_to_target: int | None
    joules_to_target: float | None
    best: float | None
    test: float | None
    trainable_parameters: int | None
    state_bytes: int | None
    bytes_down: int
    bytes_up: int
    curve: tuple[Point, ...]
    devices: tuple[DeviceResult, ...]
    config: dict[str, Any]
    data: DataResult | None = None
    """None, as all below, for a result of before it said so."""
    best_metrics: dict[str, float | None] | None = None
    test_metrics: dict[str, float | None] | None = None
    cut: CutResult | None = None
    skew: SkewResult | None = None


class Result(_Part):
    """All of a result.json: the coordinator's environment, and a run for each method."""

    schema_version: int = Field(alias="schema")
    environment: dict[str, Any]
    runs: tuple[RunResult, ...]

    def run(self, method: str) -> RunResult:
        """The run of that method. Raises KeyError where there is none."""
        for run in self.runs:
            if run.method == method:
                return run
        raise KeyError(method)


def read_result(folder: str | os.PathLike[str]) -> Result:
    """The result in a run's folder, or of that file itself.

    Raises BadInput with one line where there is none, where it is damaged, and where its schema is another one.
    """
    path = Path(folder)
    if path.is_dir():
        path /= _FILE
    if not path.exists():
        raise BadInput(f"{path.parent}: holds no {path.name}; it must be the folder of a run that has ended")
    tree = read_result_tree(path)
    try:
        return Result.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = shown(".".join(str(part) for part in first["loc"]))
        raise BadInput(f"{path} is damaged: {where}: {reason_of(first)}") from None


def read_result_tree(path: Path) -> dict[str, Any]:
    """The plain values of a result.json whose schema is this one, with a list of runs. Raises BadInput."""
    try:
        with open_regular(path) as file:
            tree = json.loads(file.read().decode(), parse_constant=_no_constant)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged: {one_line(error)}") from None
    schema = tree.get("schema") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or schema != SCHEMA or isinstance(schema, bool):
        raise BadInput(
            f"{path} has schema {shown(repr(schema))}; this federa reads {SCHEMA}: read it with the federa that "
            "wrote it"
        )
    runs = tree.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise BadInput(f"{path} is damaged: it must hold a list of runs")
    return tree


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
