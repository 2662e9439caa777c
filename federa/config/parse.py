"""Reading a description: YAML, JSON, plain values; what is wrong with it is said in one line that names the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from federa.config.experiment import Experiment
from federa.config.fields import holds_words, section_fields
from federa.config.refusal import explain
from federa.errors import BadInput, shown
from federa.regular_file import open_regular

MAX_BYTES = 4_000_000
"""The largest experiment's file: one that is written by hand has a hundredth of it."""

_NULL = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"


def parse_experiment(tree: object) -> Experiment:
    """Check a tree of plain values. Raises BadInput with one line that names the field and what it may be."""
    if not isinstance(tree, Mapping):
        raise BadInput("an experiment must be a mapping of fields, such as 'seed: 0'")
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise BadInput(explain(error)) from None


def parse_json(text: str) -> Experiment:
    """An experiment from its JSON, as the wire carries it. Raises BadInput."""
    try:
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        raise BadInput(explain(error)) from None


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


def parse_yaml(text: str, origin: str, field: str = "") -> object:
    """A YAML document as plain values: the experiment, or the value of its `field`. What stands where the schema wants
    words is taken as it is written: `[yes, no]` and `[01, 02]` are two words, not truth values or numbers. Raises
    BadInput with one line that names the origin."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _take_words(node, field.split(".") if field else [], set())
        return loader.construct_document(node)
    except Exception as error:
        # Not YAMLError alone: a date of month 99 is a ValueError, `!!bool x` a KeyError, deep nesting a RecursionError.
        raise BadInput(f"{origin} is not YAML: {_problem(error)}") from None


def _take_words(node: yaml.Node, path: Sequence[str | int], seen: set[yaml.Node]) -> None:
    """Make text of what stands where the schema has words, and is written without a tag of its own."""
    if node in seen:
        return  # an alias, perhaps of what it stands in
    seen.add(node)
    if isinstance(node, yaml.MappingNode) and section_fields(path):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                _take_words(value, [*path, str(key.value)], seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _take_words(item, [*path, index], seen)
    elif isinstance(node, yaml.ScalarNode) and node.tag != _NULL and node.style is None and holds_words(path):
        node.tag = _TEXT


def _problem(error: Exception) -> str:
    """What is wrong with a YAML document, and where."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem:
        return shown(" ".join(str(error).split()))
    return shown(problem) + (f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else "")
