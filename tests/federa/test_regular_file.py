"""What is opened as a file, and what is told to be none at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from federa.regular_file import open_regular


def test_a_file_is_read_and_so_is_a_link_to_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name, most_bytes=3) as file:
            assert file.read() == b"abc"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipe", "it is a pipe"),
        ("link to a pipe", "it is a pipe"),
        ("socket", "it is a socket"),
        (".", "it is a folder"),
        ("/dev/zero", "it is a device"),
        ("/dev/null", "it is a device"),
    ],
)
@pytest.mark.parametrize("pipes", [False, True])
def test_what_is_no_file_is_told_and_not_waited_for(tmp_path, name, words, pipes):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
    with pytest.raises(OSError) as refused:
        open_regular(tmp_path / name, pipes=pipes)
    assert refused.value.strerror == f"{words}, and must be a file"


def test_a_file_that_is_too_large_is_told(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError) as refused:
        open_regular(tmp_path / "large", most_bytes=1000)
    assert refused.value.strerror == "it has 1.10 TB, and may have 1.0 kB at most"


def test_a_pipe_that_is_open_already_is_read_where_that_is_asked_for():
    code = (
        "import sys; from federa.regular_file import open_regular\n"
        "print(open_regular('/dev/stdin', pipes=sys.argv[1] == 'yes').read())"
    )
    for pipes, words in (("yes", "b'abc'"), ("no", "it is a pipe, and must be a file")):
        done = subprocess.run([sys.executable, "-c", code, pipes], input="abc", capture_output=True, text=True)
        assert words in done.stdout + done.stderr
