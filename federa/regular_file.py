"""Opening what a person named as a file. A device has no end and a pipe may have no writer: neither is waited for."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from federa.numbers import human_bytes

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str], *, most_bytes: int | None = None, pipes: bool = False) -> BinaryIO:
    """Open a file to read its bytes. With `pipes` it may also be the end of a pipe that is open already, such as
    /dev/stdin or the shell's `<(command)`, which is read once and ends with its command.

    Raises OSError, of which `strerror` says in words what else it is, or that it is larger than `most_bytes`."""
    # What is a file now might be a pipe when it is opened, which must not wait for a writer either.
    _check(path, os.stat(path), most_bytes, pipes)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        _check(path, found, most_bytes, pipes)
        # Some files of /proc are none, and wait like pipes: they stay as they are, and seem to be at their end.
        os.set_blocking(fd, stat.S_ISFIFO(found.st_mode))
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def size_of_regular(path: str | os.PathLike[str]) -> int:
    """How many bytes a file has. It is not opened: SQLite's locks on a file end when its process closes it anywhere.
    Raises OSError like `open_regular`."""
    found = os.stat(path)
    _check(path, found, None, pipes=False)
    return found.st_size


def standard_input() -> BinaryIO:
    """What is piped to this program, or typed at it. Raises OSError for a device without an end."""
    found = os.fstat(sys.stdin.fileno())
    if stat.S_ISCHR(found.st_mode) and not sys.stdin.isatty() and found.st_rdev != os.stat(os.devnull).st_rdev:
        raise OSError(errno.EINVAL, "it is a device, which has no end")
    return sys.stdin.buffer


def _check(path: str | os.PathLike[str], found: os.stat_result, most_bytes: int | None, pipes: bool) -> None:
    for is_kind, words in _KINDS:
        if is_kind(found.st_mode) and not (pipes and stat.S_ISFIFO(found.st_mode) and _has_no_name(path)):
            raise OSError(errno.EINVAL, f"it is {words}, and must be a file", os.fspath(path))
    if most_bytes is not None and found.st_size > most_bytes:
        size, most = human_bytes(found.st_size), human_bytes(most_bytes)
        raise OSError(errno.EFBIG, f"it has {size}, and may have {most} at most", os.fspath(path))


def _has_no_name(path: str | os.PathLike[str]) -> bool:
    """Whether a pipe stands in no folder: then this process was given it open."""
    return not Path(os.path.realpath(path)).exists()
