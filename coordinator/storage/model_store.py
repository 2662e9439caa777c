"""The base model's files, as a run serves them to devices that lack them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from federa.errors import BadInput
from federa.models.files import ModelFile, check_files, describe
from protos import federation_pb2 as pb


class ModelStore:
    """The files of one run's base model, by digest: `fill` it once. `wire_bytes` have gone down to devices, counted
    apart from the bytes of states."""

    def __init__(self) -> None:
        self.wire_bytes = 0
        self._files: tuple[ModelFile, ...] = ()
        self._paths: dict[bytes, Path] = {}

    def fill(self, paths: Iterable[Path]) -> None:
        """Hash the files, which takes a while, and serve them from now on; without any, devices find the model
        themselves. Raises BadInput."""
        files = []
        for path in paths:
            try:
                file = describe(path)
            except OSError as error:
                raise BadInput(f"model: cannot read {path}: {error.strerror}") from None
            files.append(file)
            self._paths[file.sha256] = path
        self._files = check_files(files) if files else ()

    def listing(self) -> list[pb.ModelFile]:
        """The files as they are listed to devices."""
        return [pb.ModelFile(name=file.name, size=file.size, sha256=file.sha256) for file in self._files]

    def path(self, sha256: bytes) -> Path | None:
        """The file with that digest."""
        return self._paths.get(sha256)
