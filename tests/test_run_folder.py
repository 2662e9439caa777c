"""A run's folder: what is written is on the disk, whole, before anybody relies on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from coordinator import run_folder
from coordinator.run_folder import FINAL_STATE, RESULT, RunFolder, claim_folder, write_durably, write_json
from federa.errors import BadInput
from federa.state import digest_of


@pytest.fixture
def disk(monkeypatch):
    """What was asked of the disk, in order: ("fsync", path) and ("replace", from, to)."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def recorded_replace(source, target):
        calls.append(("replace", Path(source), Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return calls


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_return(tmp_path, disk):
    write_durably(tmp_path / "a", b"blob")
    fresh = tmp_path / "a.new"
    assert disk == [("fsync", fresh), ("replace", fresh, tmp_path / "a"), ("fsync", tmp_path)]
    assert (tmp_path / "a").read_bytes() == b"blob"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_everything_that_lasts_is_written_in_that_order(tmp_path, disk):
    folder = RunFolder(tmp_path)
    digest = folder.keep_state(b"state")
    folder.publish_final(digest)
    write_json(tmp_path / RESULT, {})
    kinds = [call[0] for call in disk]
    assert kinds == ["fsync", "replace", "fsync"] * 3
    for fsync, replace, folder_fsync in zip(disk[::3], disk[1::3], disk[2::3], strict=True):
        assert fsync[1] == replace[1]
        assert folder_fsync[1] == replace[2].parent
    assert disk[1][2] == folder.state(digest)
    assert disk[4][2] == tmp_path / FINAL_STATE
    assert disk[7][2] == tmp_path / RESULT


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_durably(tmp_path / "a", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_state_lies_under_its_digest(tmp_path):
    folder = RunFolder(tmp_path)
    digest = folder.keep_state(b"state")
    assert digest == digest_of(b"state")
    assert folder.state(digest).read_bytes() == b"state"
    assert folder.keep_state(b"state") == digest


def test_only_the_states_that_are_needed_stay(tmp_path):
    folder = RunFolder(tmp_path)
    kept, dropped, other = (folder.keep_state(blob) for blob in (b"1", b"2", b"3"))
    folder.drop_states(but={kept, other})
    assert folder.state(kept).exists() and folder.state(other).exists()
    assert not folder.state(dropped).exists()


def test_updates_of_a_round_and_client_differ_by_digest_and_go_with_their_round(tmp_path):
    folder = RunFolder(tmp_path)
    paths = [folder.update(*which) for which in ((1, 0, "a"), (1, 0, "b"), (1, 10, "a"), (10, 1, "a"))]
    assert len(set(paths)) == 4
    for path in paths:
        path.write_bytes(b"")
    folder.drop_updates(1)
    assert [path.exists() for path in paths] == [False, False, False, True]


def test_a_folder_is_claimed_once(tmp_path):
    out = tmp_path / "new" / "folder"
    claim_folder(out)
    assert list(out.iterdir()) == []
    claim_folder(out)  # nothing is in it yet
    write_json(out / RESULT, {"schema": 1})
    with pytest.raises(BadInput, match=r"--out: .*already holds a result\.json"):
        claim_folder(out)
    assert json.loads((out / RESULT).read_text()) == {"schema": 1}


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match="--out: cannot write to") as caught:
            claim_folder(bad)
        assert "\n" not in str(caught.value)


def test_a_result_never_holds_what_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / RESULT, {"value": float("nan")})
    assert not (tmp_path / RESULT).exists()


def test_sync_opens_nothing_for_writing(tmp_path):
    path = tmp_path / "readonly"
    path.write_bytes(b"x")
    path.chmod(0o400)
    run_folder.sync(path)
    run_folder.sync(tmp_path)
