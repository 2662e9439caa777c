"""Reading a description: YAML, JSON, plain values; what is wrong with it is said in one line that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from federa.config.experiment import Experiment
from federa.errors import BadInput
from federa.regular_file import open_regular

MAX_BYTES = 4_000_000
"""The largest experiment's file: one that is written by hand has a hundredth of it."""


def parse_experiment(tree: object) -> Experiment:
    """Check a tree of plain values. Raises BadInput with one line that names the field and what it may be."""
    if not isinstance(tree, Mapping):
        raise BadInput("an experiment must be a mapping of fields, such as 'seed: 0'")
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise BadInput(_explain(error)) from None


def parse_json(text: str) -> Experiment:
    """An experiment from its JSON, as the wire carries it. Raises BadInput."""
    try:
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        raise BadInput(_explain(error)) from None


def read_tree(path: Path) -> dict[str, Any]:
    """The plain values of a YAML file. Raises BadInput where it cannot be read or holds no mapping."""
    try:
        with open_regular(path, most_bytes=MAX_BYTES, pipes=True) as file:
            text = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the experiment {path}: {getattr(error, 'strerror', None) or error}") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise BadInput(f"{path} must hold a mapping of fields, such as 'seed: 0'")
    return tree


def parse_yaml(text: str, origin: str) -> object:
    """A YAML document as plain values. Raises BadInput with one line that names the origin."""
    try:
        return yaml.safe_load(text)
    except Exception as error:
        # Not YAMLError alone: a date of month 99 is a ValueError, `!!bool x` a KeyError, deep nesting a RecursionError.
        raise BadInput(f"{origin} is not YAML: {' '.join(str(error).split())}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    # A union's branches stand in the location by type name ('tuple[str, ...]'): they are no field of the user's.
    parts = [str(part) for part in first["loc"] if not str(part).startswith(("tuple[", "literal["))]
    field = " ".join(".".join(parts).split()) or "experiment"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "is not a known field"
        if parts[0] == "adapter":
            message += ": its fields are those of lora now, such as lora.r"
        return " ".join(f"{field} {message}".split())
    given = first.get("input")
    # Python refuses to print whole numbers of more than 4,300 digits.
    printable = isinstance(given, str | float) or (isinstance(given, int) and given.bit_length() < 1000)
    shown = f" (got {given!r})" if printable and repr(given) not in message else ""
    return " ".join(f"{field}: {message[0].lower()}{message[1:]}{shown}".split())
