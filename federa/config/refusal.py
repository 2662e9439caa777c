"""Why a description is refused, in one line that names the field and says what it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from federa.config.fields import is_list_of_sections, is_list_of_words, section_fields
from federa.errors import shown
from federa.field_error import reason_of

MAX_GIVEN = 60
"""The most characters of a value that a refusal shows."""
_LISTS = ("tuple_type", "list_type")
_SECTIONS = ("model_type", "model_attributes_type", "dict_type", "dataclass_type")


def explain(error: ValidationError) -> str:
    """The first of pydantic's errors in our words."""
    errors: list[Mapping[str, Any]] = list(error.errors(include_url=False))
    first = errors[0]
    path = _path(first)
    field = " ".join(".".join(map(str, path)).split()) or "experiment"
    if first["type"] in ("extra_forbidden", "invalid_key"):
        # The section of LoRA was once called so.
        renamed = f": it is lora.{path[1]}" if path in (["adapter", "r"], ["adapter", "alpha"]) else ""
        return f"{shown(field)} is not a known field{renamed}"
    # What several alternatives say of one field.
    reasons = [_reason(one, path) for one in errors if _path(one) == path]
    reason = " or ".join([reasons[0], *(other.removeprefix("must be ") for other in dict.fromkeys(reasons[1:]))])
    return " ".join(f"{shown(field)}: {reason}{_given(first, reason)}{_how_to_write(first, path)}".split())


def _path(error: Mapping[str, Any]) -> list[str | int]:
    # A union's branches stand in the location by type name ('tuple[str, ...]'): they are no field of the user's.
    return [part for part in error["loc"] if not str(part).startswith(("tuple[", "literal["))]


def _reason(error: Mapping[str, Any], path: list[str | int]) -> str:
    kind = error["type"]
    if kind in _LISTS:
        items = " of sections" if is_list_of_sections(path) else " of texts" if is_list_of_words(path) else ""
        return f"must be a list{items}"
    if kind in _SECTIONS and section_fields(path):
        return f"must be a section of the fields {', '.join(section_fields(path))}"
    if kind == "too_short":
        return f"must be a list of at least {error['ctx']['min_length']}{' section' * is_list_of_sections(path)}"
    return reason_of(error)


def _given(error: Mapping[str, Any], reason: str) -> str:
    """The value that was given, where it is one that a line can show."""
    given = error.get("input")
    if error["type"] in ("missing", "json_invalid"):
        return ""
    if isinstance(given, Mapping | list | tuple):
        if error["type"] == "value_error":
            return ""  # it says what it is about
        text = "a mapping" if isinstance(given, Mapping) else "a list"
    elif given is None or isinstance(given, bool):
        text = {None: "null", True: "true", False: "false"}[given]
    # Python refuses to print whole numbers of more than 4,300 digits.
    elif isinstance(given, str | float) or (isinstance(given, int) and given.bit_length() < 1000):
        text = repr(given)
    else:
        return ""
    is_said = text in reason and (isinstance(given, str | bool) or given is None)
    return "" if is_said else f" (got {shown(text, MAX_GIVEN)})"


def _how_to_write(error: Mapping[str, Any], path: list[str | int]) -> str:
    """How a value is written of which the meaning can be guessed."""
    kind, given = error["type"], error.get("input")
    if given is None and kind == "string_type":
        return ": in quotes where the word is meant"
    if not isinstance(given, str) or not given.strip():
        return ""
    words = [shown(word.strip(), MAX_GIVEN) for word in given.strip("[]").split(",") if word.strip()]
    if not words:
        return ""
    if kind in (*_LISTS, "literal_error") and is_list_of_words(path):
        return f": write [{', '.join(words)}]"
    if kind in _LISTS and is_list_of_sections(path):
        return f": write [{', '.join(f'{{name: {word}}}' for word in words)}]"
    if kind in _SECTIONS and "name" in section_fields(path):
        return f": write {{name: {words[0]}}}"
    return ""
