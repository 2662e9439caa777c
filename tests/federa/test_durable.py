"""Files that are whole under their name, and on the disk before anybody relies on them."""

from __future__ import annotations

import os
import stat

import pytest

from federa.durable import move, replacement, sync, write_file


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_return(tmp_path, disk):
    write_file(tmp_path / "a", b"blob")
    fresh = tmp_path / ".a.new"
    assert disk == [("fsync", fresh), ("replace", fresh, tmp_path / "a"), ("fsync", tmp_path)]
    assert (tmp_path / "a").read_bytes() == b"blob"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_sync_opens_nothing_for_writing(tmp_path):
    path = tmp_path / "readonly"
    path.write_bytes(b"x")
    path.chmod(0o400)
    sync(path)
    sync(tmp_path)


def test_a_write_that_fails_leaves_nothing_beside_the_old_file(tmp_path):
    write_file(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), replacement(tmp_path / "a") as fresh:
        fresh.write_bytes(b"half")
        raise RuntimeError
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    (tmp_path / ".a.new").write_bytes(b"half, and longer than the whole")
    (tmp_path / ".a.new").chmod(0o644)
    write_file(tmp_path / "a", b"whole", mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_has_its_mode_before_it_has_a_byte(tmp_path, disk, monkeypatch):
    modes = []
    real = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda fd, *rest: modes.append(os.fstat(fd).st_mode) or real(fd, *rest))
    before = os.umask(0o022)
    try:
        write_file(tmp_path / "key", b"secret", mode=0o600)
        write_file(tmp_path / "open", b"open")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(mode) for mode in modes] == [0o600, 0o644]


def test_a_folder_is_moved_in_place_and_its_name_is_on_the_disk(tmp_path, disk):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_bytes(b"x")
    move(tmp_path / "part", tmp_path / "whole")
    assert disk == [("replace", tmp_path / "part", tmp_path / "whole"), ("fsync", tmp_path)]
    assert (tmp_path / "whole" / "file").read_bytes() == b"x"
