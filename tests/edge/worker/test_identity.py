"""A worker's key: kept on its disk, and used by one process at a time."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import until

from edge import main as edge_main
from edge.worker.identity import Identity, default_state_folder, file_name
from edge.worker.model_cache import default_cache_folder
from federa.errors import BadInput
from protos.channel import valid_name


def key_of(folder, name="ada"):
    with Identity(folder, name) as identity:
        return identity.key


def test_a_key_is_made_once_and_kept(tmp_path):
    folder = tmp_path / "a" / "b"
    key = key_of(folder)
    assert re.fullmatch("[0-9a-f]{32}", key)
    assert key_of(folder) == key
    assert key_of(folder, "bob") != key
    assert key_of(tmp_path) != key


def test_nobody_else_may_read_it(tmp_path):
    folder = tmp_path / "state"
    key = key_of(folder)
    assert (folder / "ada").read_text() == f"{key}\n"
    assert stat.S_IMODE((folder / "ada").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"ada", ".ada.lock"}


def test_a_second_worker_of_the_name_is_refused_while_the_first_lives(tmp_path):
    with Identity(tmp_path, "ada") as first:
        refusal = rf"a worker named 'ada' runs here already \(pid {os.getpid()}\)"
        with pytest.raises(BadInput, match=refusal), Identity(tmp_path, "ada"):
            pass
        key_of(tmp_path, "bob")
    assert key_of(tmp_path) == first.key


def test_a_key_that_broke_off_in_making_is_made_anew(tmp_path):
    (tmp_path / ".ada.new").write_text("0123")
    assert len(key_of(tmp_path)) == 32


GARBLED = ("", "x", "0" * 31, "0" * 33, "0" * 32 + "\n\n", "G" * 32, "A" * 32, "\xff" * 32, "0" * 100_000)


@pytest.mark.parametrize("content", GARBLED)
def test_a_garbled_key_is_refused_by_name(tmp_path, content):
    (tmp_path / "ada").write_text(content)
    with pytest.raises(BadInput) as caught:
        key_of(tmp_path)
    words = str(caught.value)
    assert f"{tmp_path / 'ada'} must hold this worker's key, 32 hexadecimal digits" in words
    assert "\n" not in words
    # The next one is not locked out, and the file is left as it was.
    assert (tmp_path / "ada").read_text() == content
    (tmp_path / "ada").unlink()
    assert key_of(tmp_path)


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "ada").mkdir(parents=True)
    (tmp_path / "locked" / ".ada.lock").mkdir(parents=True)
    for folder, named in (("file", "file/.ada.lock"), ("folder", "folder/ada"), ("locked", "locked/.ada.lock")):
        with pytest.raises(
            BadInput, match=f"--state: cannot use {tmp_path}/{named} for this worker's key: .+"
        ) as caught:
            key_of(tmp_path / folder)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="Permission denied"):
        key_of(tmp_path)


@given(name=st.text(min_size=1, max_size=100).filter(valid_name))
def test_any_name_is_a_file_of_its_own_below_the_folder(name):
    found = file_name(name)
    assert "/" not in found
    assert not found.startswith(".")
    assert len(f".{found}.lock".encode()) <= 255


def test_names_and_files_are_one_to_one():
    names = ["a", "A", "a.lock", ".a", "..", ".", "%2E", "a b", "a/b", "é", "é" * 100, "é" * 99 + "e", "ada.new"]
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("orin-1.lan") == "orin-1.lan"


def test_the_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    for value, folder in (("/state", "/state/federa"), ("", "/home/ada/.local/state/federa"), ("state", None)):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert default_state_folder() == Path(folder or "/home/ada/.local/state/federa")


def test_a_user_without_a_home_names_the_folder(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    for variable in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(BadInput, match=r"^--state: must name a folder for this worker's key: this user has no home$"):
        default_state_folder()
    with pytest.raises(BadInput, match=r"^--cache: must name a folder for base models: this user has no home$"):
        default_cache_folder()


# ---------------------------------------------------------------- processes


def start_worker(folder, name="ada"):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "tests.doubles.noop", "worker", "--coordinator", address, "--name", name]
    return subprocess.Popen([*command, "--state", str(folder)], stderr=subprocess.PIPE, text=True)


def reads(worker, *words):
    """Read the worker's lines up to one with each of these. gRPC may write lines of its own between them."""
    for word in words:
        assert any(word in line for line in iter(worker.stderr.readline, "")), word


def test_a_second_process_of_the_name_ends_with_2_and_a_killed_one_leaves_its_key(tmp_path):
    first = start_worker(tmp_path)
    try:
        reads(first, " power: ", "not connected")
        key = (tmp_path / "ada").read_text()
        second = start_worker(tmp_path)
        _, printed = second.communicate(timeout=20)
        assert second.returncode == 2
        assert printed.splitlines()[-1].startswith(
            f"federa-worker: a worker named 'ada' runs here already (pid {first.pid}):"
        )
        assert "Traceback" not in printed
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=20)
        third = start_worker(tmp_path)
        try:
            reads(third, " power: ", "not connected")
            assert (tmp_path / "ada").read_text() == key
            until(lambda: (tmp_path / ".ada.lock").read_text() == f"{third.pid}\n", "its number is there", 5)
        finally:
            third.kill()
            third.communicate()
    finally:
        first.kill()
        first.communicate()


def test_a_bad_key_ends_the_command_before_an_engine_is_made(tmp_path, capsys):
    (tmp_path / "ada").write_text("nonsense")
    arguments = ["--coordinator", "127.0.0.1:1", "--name", "ada", "--state", str(tmp_path)]
    assert edge_main.main(arguments, lambda options, threads: pytest.fail("an runtime was made")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("federa-worker: --state: ")
