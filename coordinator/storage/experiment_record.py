"""What a folder of results is for: the experiment, its id and how it ended, kept beside the results."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coordinator.storage.run_folder import LEDGER, RESULT, write_json
from federa.config import Experiment, parse_experiment
from federa.errors import EXIT_OK, EXIT_TARGET_MISSED, BadInput
from protos.federation_pb2 import Outcome

RECORD = "experiment.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentRecord:
    """`submitted_at` is Unix time. `exit_code` and `message` are those of the end, None before it."""

    experiment_id: str
    experiment: Experiment
    submitted_at: float
    exit_code: int | None = None
    message: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do. What failed or was ended early can be gone on with."""
        return self.exit_code in (EXIT_OK, EXIT_TARGET_MISSED)

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return Outcome(exit_code=self.exit_code or EXIT_OK, message=self.message)

    def ended(self, outcome: Outcome | None) -> ExperimentRecord:
        """The same experiment with this end, or under way again."""
        if outcome is None:
            return replace(self, exit_code=None, message="")
        return replace(self, exit_code=outcome.exit_code, message=outcome.message)

    def write(self, folder: Path) -> None:
        """Keep it in a folder, which is made where there is none, durably."""
        folder.mkdir(parents=True, exist_ok=True)
        tree = {
            "experiment_id": self.experiment_id,
            "submitted_at": self.submitted_at,
            "exit_code": self.exit_code,
            "message": self.message,
            "experiment": self.experiment.model_dump(mode="json"),
        }
        write_json(folder / RECORD, tree)


def new_record(experiment: Experiment, experiment_id: str = "") -> ExperimentRecord:
    """The record of an experiment that is submitted now."""
    return ExperimentRecord(
        experiment_id=experiment_id or uuid.uuid4().hex[:12], experiment=experiment, submitted_at=time.time()
    )


def read_record(folder: Path) -> ExperimentRecord | None:
    """What a folder says, or None where it says nothing. Raises BadInput for a file that cannot be read."""
    path = folder / RECORD
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if not math.isfinite(tree["submitted_at"]):
            raise ValueError("submitted_at must be finite")
        return ExperimentRecord(
            experiment_id=str(tree["experiment_id"]),
            experiment=parse_experiment(tree["experiment"]),
            submitted_at=float(tree["submitted_at"]),
            exit_code=None if tree["exit_code"] is None else int(tree["exit_code"]),
            message=str(tree["message"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, BadInput) as error:
        raise BadInput(
            f"--out: {path} is not a record that this federa reads ({type(error).__name__}: {error}); "
            "go on with the federa that wrote it, or name another folder"
        ) from None


def open_record(folder: Path, experiment: Experiment) -> ExperimentRecord:
    """The record of a folder that is to hold this experiment: a new one, or that of the same experiment, to be gone on
    with or reported. Raises BadInput where the folder holds something else."""
    record = read_record(folder)
    if record is None:
        for name in (RESULT, LEDGER):
            if (folder / name).exists():
                raise BadInput(f"--out: {folder} already holds a {name} of another origin; name another folder")
        record = new_record(experiment)
        record.write(folder)
        return record
    difference = _difference(record.experiment.model_dump(mode="json"), experiment.model_dump(mode="json"))
    if difference:
        raise BadInput(
            f"--out: {folder} holds another experiment ({difference}); name another folder, nothing is overwritten"
        )
    return record


def _difference(there: Any, here: Any, field: str = "") -> str:
    """The first field in which two experiments differ, in words; empty where they are equal."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in there:
            difference = _difference(there[key], here.get(key), f"{field}.{key}" if field else key)
            if difference:
                return difference
        return ""
    if there == here:
        return ""
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return next(
            difference
            for i, pair in enumerate(zip(there, here, strict=True))
            if (difference := _difference(*pair, f"{field}.{i}"))
        )
    return f"{field} is {json.dumps(there)} there, {json.dumps(here)} here"
