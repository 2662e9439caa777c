"""What is wrong with a field, in our words: pydantic's own are about its types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BY_KIND = {
    "missing": "must be given",
    "string_type": "must be text",
    "string_unicode": "must be text, without half of a surrogate pair",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "json_invalid": "is no JSON ({error})",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
}


def reason_of(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors is about, such as "must be a whole number". What a section of somebody else's may
    have beyond these kinds is said in pydantic's words."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind in _BY_KIND:
        return _BY_KIND[kind].format_map({key: _plain(value) for key, value in context.items()})
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    return message[:1].lower() + message[1:]


def _plain(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value
