"""A folder for results: another experiment may have it only where the one before failed before its first round."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.operator.experiment import claimed
from coordinator.storage.experiment_record import new_record, read_record
from coordinator.storage.ledger import Ledger
from federa.config import Experiment
from federa.errors import BadInput
from protos.federation_pb2 import Outcome

FIRST, SECOND = Experiment(seed=1), Experiment(seed=2)


def failed(
    out: Path, *, code: int | None = 2, code_there: int | None = 2, rounds: int = 0, here: bool = True, below: str = ""
) -> None:
    """What an experiment that ended with `code` left in a folder."""
    record = new_record(FIRST, "abc")
    record.ended(None if code is None else Outcome(exit_code=code, message="why")).write(out)
    (out / "result.json").write_text("{}")
    folder = out / "coordinator" / "abc"
    if here:
        record.ended(None if code_there is None else Outcome(exit_code=code_there, message="why")).write(folder)
        (folder / below).mkdir(exist_ok=True)
        ledger = Ledger(folder / below / "ledger.sqlite")
        for round_ in range(1, rounds + 1):
            ledger.selected(round_, 1, [0], "broadcast")
        ledger.close()


@pytest.mark.parametrize("code", [1, 2])
def test_a_folder_in_which_nothing_began_is_free_again(tmp_path: Path, code: int) -> None:
    failed(tmp_path, code=code, below="ft")
    with claimed(tmp_path, SECOND) as record:
        assert record.experiment == SECOND and record.experiment_id != "abc" and record.exit_code is None
        assert read_record(tmp_path) == record and not (tmp_path / "result.json").exists()
    assert (tmp_path / "coordinator" / "abc" / "experiment.json").exists()


@pytest.mark.parametrize(
    "left",
    [
        {"rounds": 1}, {"rounds": 1, "below": "ft"}, {"code": 130}, {"code": None}, {"code": 0}, {"code": 3},
        {"code_there": None}, {"code_there": 130}, {"here": False},
    ],
)  # fmt: skip
def test_what_began_or_may_go_on_keeps_its_folder(tmp_path: Path, left: dict[str, object]) -> None:
    failed(tmp_path, **left)
    with pytest.raises(BadInput, match="holds another experiment"), claimed(tmp_path, SECOND):
        pass
    assert read_record(tmp_path).experiment == FIRST and (tmp_path / "result.json").exists()


def test_a_ledger_that_cannot_be_read_keeps_its_folder(tmp_path: Path) -> None:
    failed(tmp_path)
    (tmp_path / "coordinator" / "abc" / "ledger.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(BadInput, match="holds another experiment"), claimed(tmp_path, SECOND):
        pass


def test_the_same_experiment_is_gone_on_with(tmp_path: Path) -> None:
    failed(tmp_path)
    with claimed(tmp_path, FIRST) as record:
        assert (record.experiment_id, record.exit_code) == ("abc", 2)
