"""What a folder of results is for: the same experiment goes on, and nothing else touches it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.storage.experiment_record import RECORD, ExperimentRecord, new_record, open_record, read_record
from coordinator.storage.run_folder import LEDGER, LOCK, RESULT, Claim
from federa.config import Experiment, parse_experiment
from federa.errors import EXIT_BAD_INPUT, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, EXIT_TARGET_MISSED, BadInput
from protos.federation_pb2 import Outcome

EXPERIMENT = Experiment(name="é", seed=4)


def refusal(folder, experiment=EXPERIMENT):
    """Why the folder is not this experiment's, in one line."""
    with pytest.raises(BadInput) as caught:
        open_record(folder, experiment)
    words = str(caught.value)
    assert "\n" not in words and words.startswith("--out: ") and str(folder) in words
    return words


def test_a_record_comes_back_as_it_was(tmp_path):
    record = new_record(EXPERIMENT)
    assert record.exit_code is None and not record.finished
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    ended = record.ended(Outcome(exit_code=EXIT_TARGET_MISSED, message="é missed"))
    ended.write(tmp_path)
    assert read_record(tmp_path) == ended
    assert (ended.outcome.exit_code, ended.outcome.message) == (EXIT_TARGET_MISSED, "é missed")
    assert ended.ended(None) == record


def test_every_experiment_has_an_id_of_its_own_unless_it_is_given_one():
    assert new_record(EXPERIMENT).experiment_id != new_record(EXPERIMENT).experiment_id
    assert new_record(EXPERIMENT, "e7").experiment_id == "e7"


def test_a_folder_without_a_record_says_nothing(tmp_path):
    assert read_record(tmp_path) is None


@pytest.mark.parametrize(
    ("code", "finished"),
    [
        (None, False),
        (EXIT_OK, True),
        (EXIT_TARGET_MISSED, True),
        (EXIT_ERROR, False),
        (EXIT_BAD_INPUT, False),
        (EXIT_INTERRUPTED, False),
    ],
)
def test_what_failed_or_was_ended_early_can_be_gone_on_with(tmp_path, code, finished):
    record = ExperimentRecord(experiment_id="e", experiment=EXPERIMENT, submitted_at=1.5, exit_code=code, message="why")
    record.write(tmp_path)
    again = open_record(tmp_path, EXPERIMENT)
    assert (again, again.finished) == (record, finished)


def test_a_new_folder_becomes_the_experiments(tmp_path):
    record = open_record(tmp_path, EXPERIMENT)
    assert read_record(tmp_path) == record
    assert record.experiment == EXPERIMENT and not record.finished
    assert open_record(tmp_path, EXPERIMENT) == record


def test_defaults_written_out_are_the_same_experiment(tmp_path):
    record = open_record(tmp_path, Experiment())
    assert open_record(tmp_path, parse_experiment(Experiment().model_dump(mode="json"))) == record


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 5}, "seed is 4 there, 5 here"),
        ({"federation": {"clients": 20, "rounds": 9}}, "federation.clients is 10 there, 20 here"),
        ({"data": {"partition": {"alpha": 0.1}}, "lora": {"r": 4}}, "data.partition.alpha is 0.5 there, 0.1 here"),
        ({"data": {"labels": ["b", "a"]}}, 'data.labels is null there, ["b", "a"] here'),
        ({"federation": {"deadline_s": "auto"}}, 'federation.deadline_s is null there, "auto" here'),
        ({"methods": [{"name": "lora"}]}, 'methods.0.name is "federa" there, "lora" here'),
        ({"methods": [{"name": "federa", "learning_rate": 0.5}]}, "methods.0.learning_rate is null there, 0.5 here"),
        ({"methods": [{"name": "federa"}, {"name": "ft"}]}, "methods is [{"),
    ],
)
def test_another_experiment_is_refused_by_the_first_field_that_differs(tmp_path, changes, words):
    open_record(tmp_path, EXPERIMENT)
    before = (tmp_path / RECORD).read_bytes()
    message = refusal(tmp_path, parse_experiment({"name": "é", "seed": 4, **changes}))
    assert f"holds another experiment ({words}" in message
    assert message.endswith("name another folder, nothing is overwritten")
    assert (tmp_path / RECORD).read_bytes() == before


@pytest.mark.parametrize("name", [RESULT, LEDGER])
def test_results_of_another_origin_are_left_alone(tmp_path, name):
    (tmp_path / name).write_text("precious")
    assert f"already holds a {name} of another origin; name another folder" in refusal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


GOOD = {"experiment_id": "e", "submitted_at": 1.5, "exit_code": None, "message": "", "experiment": {}}


def damaged(text):
    """The refusal of a folder whose record has these bytes."""
    folder = damaged.folder
    (folder / RECORD).write_bytes(text)
    try:
        read_record(folder)
    except BadInput:
        words = refusal(folder)
        assert words.endswith("go on with the federa that wrote it, or name another folder")
        return words
    return None


@pytest.fixture(autouse=True, scope="module")
def _one_folder(tmp_path_factory):
    damaged.folder = tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b'"e"', b"{}", b"\xff\xfe", b"[" * 50_000, b'{"experiment_id": "\xff"}', b"\0" * 512,
        *(json.dumps({**GOOD, **changes}).encode() for changes in (
            {"submitted_at": "soon"}, {"submitted_at": None}, {"submitted_at": 10**400}, {"exit_code": "x"},
            {"exit_code": []}, {"exit_code": float("inf")}, {"experiment": {"sede": 1}}, {"experiment": None},
            {"experiment": {"wire": "fp8"}}, {"experiment": {"name": "a\nb", "seed": "x\ny"}},
        )),
        *(json.dumps({key: value for key, value in GOOD.items() if key != gone}).encode() for gone in GOOD),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_refused_in_one_line(text):
    assert damaged(text)


def test_a_record_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / RECORD).mkdir()
    assert "is not a record that this federa reads" in refusal(tmp_path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    tree=st.fixed_dictionaries({key: st.just(value) | _JSON for key, value in GOOD.items()}),
    place=st.integers(0, 200) | st.none(),
    byte=st.integers(0, 255),
)
@example(tree=GOOD, place=None, byte=0)
@example(tree={**GOOD, "submitted_at": float("inf")}, place=None, byte=0)
def test_a_damaged_record_is_read_or_refused_and_nothing_else(tree, place, byte):
    text = bytearray(json.dumps(tree).encode())
    if place is not None:
        text[place % len(text)] = byte
    words = damaged(bytes(text))
    assert words is None or "is not a record that this federa reads" in words
    if words is None:
        # What was read can be kept again.
        record = read_record(damaged.folder)
        record.write(damaged.folder)
        assert read_record(damaged.folder) == record


# ---- whose folder it is


def test_a_folder_is_made_for_who_claims_it_and_released(tmp_path):
    out = tmp_path / "new" / "folder"
    claim = Claim(out)
    with pytest.raises(BadInput, match=f"--out: another process is using {out}; wait for it or name another folder"):
        Claim(out)
    claim.release()
    Claim(out).release()
    assert [path.name for path in out.iterdir()] == [LOCK]


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match="--out: cannot write to") as caught:
            Claim(bad)
        assert "\n" not in str(caught.value)


HOLD = (
    "import sys, time; from pathlib import Path\nfrom coordinator.storage.run_folder import Claim\n"
    "from federa.errors import BadInput\n"
    "try: claim = Claim(Path(sys.argv[1]))\n"
    "except BadInput as error: sys.exit(str(error))\n"
    "print('mine', flush=True); time.sleep(60)"
)


def test_one_process_has_a_folder_until_it_dies_however_it_dies(tmp_path):
    def claimant():
        return subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    first, third = claimant(), None
    try:
        assert first.stdout.readline() == "mine\n"
        out, err = claimant().communicate(timeout=60)
        assert (out, err) == ("", f"--out: another process is using {tmp_path}; wait for it or name another folder\n")
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        third = claimant()
        assert third.stdout.readline() == "mine\n"
    finally:
        for process in filter(None, (first, third)):
            process.kill()
            process.communicate()
