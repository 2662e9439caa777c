"""Classes by their names, where a column holds their numbers: what a feature of the package `datasets` says of it, as
an object or as the JSON that Parquet files from the hub carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Naming = Callable[[Any], Any]
"""Makes of a column's value what is read of it."""


def naming_of(feature: Any) -> Naming | None:
    """What gives the classes of a feature their names, also within lists and objects; None where it has no classes. A
    number below 0 is what data sets write for a record without a class: it becomes None."""
    if _is_object(feature):
        return _of_object(feature)
    names = _part(feature, "names")
    if isinstance(names, list | tuple):
        return _of_class(tuple(map(str, names)))
    items = feature[0] if isinstance(feature, list | tuple) and feature else _part(feature, "feature")
    of_item = naming_of(items) if items is not None else None
    if of_item is None:
        return None
    # A sequence of objects may be kept as an object of lists.
    of_lists = _of_object({name: [part] for name, part in items.items()}) if _is_object(items) else None
    return lambda value: _of_items(value, of_item, of_lists)


def _of_items(value: Any, of_item: Naming, of_lists: Naming | None) -> Any:
    if of_lists and isinstance(value, Mapping):
        return of_lists(value)
    return [of_item(item) for item in value] if isinstance(value, list | tuple) else value


def _is_object(feature: Any) -> bool:
    return isinstance(feature, Mapping) and not isinstance(feature.get("_type"), str)


def _part(feature: Any, name: str) -> Any:
    return feature.get(name) if isinstance(feature, Mapping) else getattr(feature, name, None)


def _of_class(names: tuple[str, ...]) -> Naming:
    def naming(value: Any) -> Any:
        if not isinstance(value, int):
            return value
        return names[value] if 0 <= value < len(names) else None

    return naming


def _of_object(features: Mapping[str, Any]) -> Naming | None:
    namings = {name: found for name, feature in features.items() if (found := naming_of(feature))}

    def naming(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: namings[name](part) if name in namings else part for name, part in value.items()}

    return naming if namings else None
