"""The schema's fields by their dotted path: which of them hold words, and which lists."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SerializeAsAny

from federa.config.experiment import Experiment
from federa.data.section import DataSection
from federa.errors import BadInput
from federa.tasks import TASKS, task_class


def field_types(path: Sequence[str | int]) -> list[Any]:
    """What the field at a path may be: each alternative of its annotation but None. Of the `data` section those of all
    tasks: which one it is may stand further down in a file. Empty where the schema has no such field."""
    found: list[Any] = [Experiment]
    for part in path:
        found = [kind for above in found for kind in _below(above, part)]
    return found


def holds_words(path: Sequence[str | int]) -> bool:
    """Whether the field at a path holds words and nothing else: text, or names of which one is chosen."""
    found = field_types(path)
    return bool(found) and all(_is_word(kind) or _is_list_of_words(kind) for kind in found)


def is_list_of_words(path: Sequence[str | int]) -> bool:
    """Whether the field at a path may be a list of words."""
    return any(map(_is_list_of_words, field_types(path)))


def is_list_of_sections(path: Sequence[str | int]) -> bool:
    """Whether the field at a path may be a list of sections."""
    return any(_is_section(item) for kind in field_types(path) for item in _items(kind))


def section_fields(path: Sequence[str | int]) -> list[str]:
    """The fields of the section at a path; none where there is no section."""
    fields = [name for kind in field_types(path) for section in _sections(kind) for name in section.model_fields]
    return list(dict.fromkeys(fields))


def _below(kind: Any, part: str | int) -> Iterator[Any]:
    for section in _sections(kind):
        if str(part) in section.model_fields:
            yield from _alternatives(section.model_fields[str(part)].annotation)
    yield from _items(kind)


def _sections(kind: Any) -> Iterator[type[BaseModel]]:
    """The section itself; of what the annotation of `data` says, which all tasks have, that of each task."""
    if kind is DataSection:
        for name in TASKS:
            # Whoever names a wrong entry hears of it.
            with contextlib.suppress(BadInput):
                yield task_class(name).Data
    elif _is_section(kind):
        yield kind


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or origin is SerializeAsAny:
        yield from _alternatives(arguments[0])
    elif origin is Union or origin is types.UnionType:
        for argument in arguments:
            yield from _alternatives(argument)
    elif annotation is not type(None):
        yield annotation


def _items(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (tuple, list, Sequence):
        yield from _alternatives(get_args(kind)[0])


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_word(kind: Any) -> bool:
    return kind is str or (get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind)))


def _is_list_of_words(kind: Any) -> bool:
    items = list(_items(kind))
    return bool(items) and all(map(_is_word, items))
