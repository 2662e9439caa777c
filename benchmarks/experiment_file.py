"""An experiment's file as federa-bench takes it: the experiment, what it is about, and a small one for a laptop.

benchmarks/experiments has those that come along. They are called by their names; any other file by its path. `about`
and `small` may stand in a file of one's own too. Everything else is the experiment.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from federa.config import Experiment, read_tree
from federa.errors import BadInput, shown
from federa.field_error import reason_of
from federa.section import Section

FOLDER = Path(__file__).parent / "experiments"
DEFAULT = "bbc_news"
"""The experiment of a command that names neither an experiment nor data."""

PartField = Literal["source", "validation_file", "test_file"]
Words = Annotated[str, Field(min_length=1)]


def _address(text: str) -> str:
    if not re.fullmatch(r"https?://\S+", text):
        raise ValueError("must be an address, such as https://example.org/data.zip")
    return text


Address = Annotated[str, AfterValidator(_address)]


class DataFile(Section):
    """A file that the experiment reads, and where people get it."""

    field: PartField
    """The field of the section `data` that names it, with the first of `names`."""
    names: Annotated[tuple[Words, ...], Field(min_length=1)]
    """Its path below the data folder; then other paths, or patterns of them, under which people have it."""
    url: Address
    """Where to get it."""
    note: str = ""
    """What is to be done with what the address gives, if anything."""

    def found(self, folder: Path) -> Path | None:
        """The file in a data folder: by its names, or straight in the folder; None where it is not there."""
        patterns = [*self.names, *(Path(name).name for name in self.names)]
        return next((path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()), None)


class About(Section):
    """What people should know of an experiment before they run it."""

    title: Words
    """The data set, on one line."""
    source: Address
    """The page of the data set."""
    licence: Words
    """Under which terms the data may be used."""
    files: tuple[DataFile, ...] = ()
    """What must be on this machine; none where a package or the hub brings the data."""
    paper: tuple[Words, ...] = ()
    """What of the protocol the FeDeRA paper says."""
    assumed: tuple[Words, ...] = ()
    """What of the protocol is this project's choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentFile:
    """A file's parts. `tree` is the experiment in plain values, `small` what differs on a laptop."""

    name: str
    about: About | None
    small: Mapping[str, Any]
    tree: Mapping[str, Any]

    def chosen(self, small: bool) -> dict[str, Any]:
        """The experiment in plain values. Raises BadInput where there is no small one."""
        if small and not self.small:
            raise BadInput(f"--small: {self.name} has no small variant; set single fields with --set")
        return _merged(self.tree, self.small if small else {})

    @property
    def files(self) -> tuple[DataFile, ...]:
        return self.about.files if self.about else ()

    def place(self, tree: dict[str, Any], folder: Path) -> None:
        """Have the tree's `data` section name the files of the data folder, where it names them as this file does."""
        for file in self.files:
            if tree.get("data", {}).get(file.field) == file.names[0]:
                tree["data"][file.field] = str((file.found(folder) or folder / file.names[0]).absolute())

    def check_files(self, experiment: Experiment, folder: Path) -> None:
        """Raises BadInput, with where to get it and where to put it, for a file of the experiment's that is missing."""
        for file in self.files:
            path = folder / file.names[0]
            if getattr(experiment.data, file.field) == str(path.absolute()) and not path.is_file():
                raise BadInput(
                    f"--experiment {self.name}: {path} is not there: get it from {file.url}"
                    f"{f' ({file.note})' if file.note else ''} and put it there, or name the folder that has it with "
                    "--data-dir"
                )


def experiment_names() -> list[str]:
    """The experiments that come along."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_experiment(given: str) -> ExperimentFile:
    """The experiment of that name, or in that file. Raises BadInput."""
    name = given.replace("-", "_")
    path = FOLDER / f"{name}.yaml" if name in experiment_names() else Path(given).expanduser()
    if not path.suffix and not path.exists():
        raise BadInput(
            f"--experiment: must be one of {', '.join(experiment_names())}, or a YAML file; there is no {shown(given)}"
        )
    tree = read_tree(path)
    about, small = tree.pop("about", None), tree.pop("small", None) or {}
    if not isinstance(small, Mapping):
        raise BadInput(f"{path}: small must be a mapping of fields, such as 'seed: 0'")
    return ExperimentFile(
        name=path.stem if path.parent == FOLDER else str(path),
        about=None if about is None else _about(about, path),
        small=small,
        tree=tree,
    )


def described() -> Iterator[tuple[str, About]]:
    """Name and description of each experiment that comes along."""
    for name in experiment_names():
        about = read_experiment(name).about
        assert about is not None, f"{name}.yaml has no section about"
        yield name, about


def _about(tree: object, path: Path) -> About:
    try:
        return About.model_validate(tree)
    except ValidationError as error:
        found: list[Mapping[str, Any]] = list(error.errors(include_url=False))
        # A field that is misspelt is missing too.
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        field = ".".join(["about", *map(str, first["loc"])])
        unknown = first["type"] == "extra_forbidden"
        raise BadInput(f"{path}: {field} {'is not a known field' if unknown else reason_of(first)}") from None


def _merged(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the fields of `over` in place; sections are merged, everything else is replaced."""
    merged = copy.deepcopy(dict(tree))
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merged(below, value)
        merged[key] = copy.deepcopy(value)
    return merged
