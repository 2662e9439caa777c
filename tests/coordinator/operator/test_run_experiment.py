"""run_experiment: what it accepts, how an experiment's end becomes a result or an error, and a notebook's event loop.

That it runs what federa-bench runs is tested with the documents' Python (tests/docs/test_python.py).
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator import run_experiment
from coordinator.operator import api
from federa import Experiment
from federa.errors import (
    EXIT_BAD_INPUT,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TARGET_MISSED,
    BadInput,
    FederaError,
)
from protos.federation_pb2 import Outcome

RESULT = {"schema": 1, "environment": {}, "runs": []}


class Runs:
    """In the place of `run_to_end`: it ends as the test says, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.exit_code, self.message = EXIT_OK, ""
        self.asked: list[Any] = []

    async def __call__(self, record: Any, out: Path, **options: Any) -> Outcome:
        self.asked.append((record.experiment, options))
        await asyncio.sleep(0)
        (out / "result.json").write_text(json.dumps(RESULT))
        outcome = Outcome(exit_code=self.exit_code, message=self.message)
        record.ended(outcome).write(out)
        return outcome


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr(api, "run_to_end", runs)
    return runs


def test_an_experiment_a_mapping_and_a_file_say_the_same(tmp_path, runs):
    tree = {"methods": [{"name": "lora"}], "seed": 3}
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps(tree))  # YAML too
    for number, given in enumerate((tree, Experiment.model_validate(tree), file, str(file))):
        result = run_experiment(given, out=tmp_path / str(number))
        assert (result.runs, result.schema_version) == ((), 1)
    assert len({experiment.model_dump_json() for experiment, _ in runs.asked}) == 1
    assert runs.asked[0][1]["coordinator"] is None and runs.asked[0][1]["power"] == "auto"


def test_what_is_finished_is_read_and_not_run_again(tmp_path, runs):
    for _ in range(2):
        run_experiment({}, out=tmp_path)
    assert len(runs.asked) == 1
    with pytest.raises(BadInput, match="holds another experiment"):
        run_experiment({"seed": 1}, out=tmp_path)


def test_a_missed_target_is_a_result_and_every_other_end_an_error(tmp_path, runs):
    runs.exit_code = EXIT_TARGET_MISSED
    assert run_experiment({}, out=tmp_path / "missed").runs == ()
    for code, kind in ((EXIT_BAD_INPUT, BadInput), (EXIT_ERROR, FederaError)):
        runs.exit_code, runs.message = code, f"it ended with {code}"
        with pytest.raises(FederaError, match=f"^it ended with {code}$") as caught:
            run_experiment({}, out=tmp_path / str(code))
        assert type(caught.value) is kind
    runs.exit_code = EXIT_INTERRUPTED
    with pytest.raises(KeyboardInterrupt):
        run_experiment({}, out=tmp_path / "interrupted")


def test_it_can_be_called_where_an_event_loop_runs(tmp_path, runs):
    async def notebook() -> Any:
        return run_experiment({}, out=tmp_path)

    assert asyncio.run(notebook()).runs == ()


def test_paths_are_those_of_the_caller(tmp_path, runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").write_text("text,label\nfine,good\n")
    (tmp_path / "model").mkdir()
    run_experiment({"model": "model", "data": {"source": "reviews.csv"}}, out="out")
    experiment, _ = runs.asked[0]
    assert (experiment.model, experiment.data.source) == (str(tmp_path / "model"), str(tmp_path / "reviews.csv"))


@pytest.mark.parametrize(
    ("experiment", "options", "why"),
    [
        ({"sed": 1}, {}, "sed is not a known field"),
        ("nowhere.yaml", {}, "cannot read the experiment nowhere.yaml"),
        (
            {"data": {"source": "devices", "labels": ["a", "b"]}, "evaluation": "devices",
             "federation": {"clients": 2, "clients_per_round": 2}},
            {}, "data.source: devices needs a coordinator",
        ),
        ({}, {"certs": "certs"}, "certs: goes with coordinator"),
        ({}, {"insecure": True}, "insecure: goes with coordinator"),
        ({}, {"coordinator": "nuc.lan"}, "coordinator: must be HOST:PORT, not 'nuc.lan'"),
        ({}, {"coordinator": "nuc.lan:50051"}, "coordinator: "),
        ({}, {"coordinator": "nuc.lan:50051", "certs": "nowhere"}, "nowhere"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_is_run(tmp_path, runs, experiment, options, why):
    with pytest.raises(BadInput) as caught:
        run_experiment(experiment, out=tmp_path / "out", **options)
    assert why in str(caught.value) and not runs.asked and not (tmp_path / "out").exists()
