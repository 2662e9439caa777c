"""A run's folder: what is written is on the disk, whole, before anybody relies on it."""

from __future__ import annotations

import pytest

from coordinator.storage.run_folder import FINAL_STATE, RESULT, RunFolder, write_json
from federa.bundle import BundleFacts
from federa.config import Experiment
from federa.tensors.state import digest_of

FACTS = BundleFacts(experiment=Experiment.model_validate({"methods": [{"name": "ft"}]}), base_digest="", round=1)


def test_everything_that_lasts_is_written_in_that_order(tmp_path, disk):
    folder = RunFolder(tmp_path)
    disk.clear()
    digest = folder.keep_state(b"state")
    folder.publish_final(state=digest, start=digest, facts=FACTS)
    write_json(tmp_path / RESULT, {})
    kinds = [call[0] for call in disk]
    assert kinds == ["fsync", "replace", "fsync"] * 4
    for fsync, replace, folder_fsync in zip(disk[::3], disk[1::3], disk[2::3], strict=True):
        assert fsync[1] == replace[1]
        assert folder_fsync[1] == replace[2].parent
    assert disk[1][2] == folder.state(digest)
    assert disk[4][2] == tmp_path / FINAL_STATE
    assert disk[7][2] == tmp_path / "final" / "bundle.json"
    assert disk[10][2] == tmp_path / RESULT


def test_a_state_lies_under_its_digest(tmp_path):
    folder = RunFolder(tmp_path)
    digest = folder.keep_state(b"state")
    assert digest == digest_of(b"state")
    assert folder.state(digest).read_bytes() == b"state"
    assert folder.keep_state(b"state") == digest


def test_a_state_that_is_written_in_place_gets_its_name_durably(tmp_path, disk):
    folder = RunFolder(tmp_path)
    fresh = folder.fresh_state()
    fresh.write_bytes(b"aggregated")
    disk.clear()
    folder.name_state(fresh, "a" * 64)
    assert disk == [("replace", fresh, folder.state("a" * 64)), ("fsync", tmp_path / "states")]
    assert not fresh.exists()


def test_the_folders_themselves_are_on_the_disk_before_anything_is_in_them(tmp_path, disk):
    RunFolder(tmp_path / "run")
    assert disk == [("fsync", tmp_path / "run"), ("fsync", tmp_path)]


def test_only_the_states_and_updates_that_are_needed_stay(tmp_path):
    folder = RunFolder(tmp_path)
    kept, dropped = folder.keep_state(b"1"), folder.keep_state(b"2")
    update, orphan = folder.update(3, 0, "a"), folder.update(3, 1, "b")
    beginning, other_round = folder.partial(3, 1, "b"), folder.partial(2, 1, "b")
    for path in (update, orphan, beginning, other_round, folder.fresh_state()):
        path.write_bytes(b"")
    folder.publish_final(state=kept, start=kept, facts=FACTS)
    folder.tidy(states={kept, "never made"}, updates={update}, round_=3)
    assert set((tmp_path / "states").iterdir()) == {folder.state(kept)}
    assert not folder.state(dropped).exists()
    assert set((tmp_path / "spool").iterdir()) == {update, beginning}
    assert (tmp_path / FINAL_STATE).read_bytes() == b"1"


def test_updates_of_a_round_and_client_differ_by_digest(tmp_path):
    folder = RunFolder(tmp_path)
    which = [(1, 0, "a"), (1, 0, "b"), (1, 10, "a"), (10, 1, "a"), (11, 0, "a"), (100_000, 1, "a"), (1, 100_000, "a")]
    assert len({folder.update(*each) for each in which} | {folder.partial(*each) for each in which}) == 2 * len(which)


def test_beginnings_are_found_by_round_and_client(tmp_path):
    folder = RunFolder(tmp_path)
    which = [(1, 0, "a"), (1, 0, "b"), (1, 10, "a"), (10, 1, "a"), (11, 0, "a"), (100_001, 0, "a"), (1, 100_000, "a")]
    paths = {each: folder.partial(*each) for each in which}
    for path in paths.values():
        path.write_bytes(b"")
    folder.update(1, 0, "c").write_bytes(b"")
    assert set(folder.partials(1)) == {path for each, path in paths.items() if each[0] == 1}
    assert set(folder.partials(1, 0)) == {paths[1, 0, "a"], paths[1, 0, "b"]}
    assert set(folder.partials(1, 10)) == {paths[1, 10, "a"]}
    assert folder.partials(2) == []


def test_a_result_never_holds_what_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / RESULT, {"value": float("nan")})
    assert not (tmp_path / RESULT).exists()
