"""Plug-ins by name: a registry maps a name to "module:Class". The module is imported when the class is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from federa.errors import BadInput, one_line


def load_class(table: str, registry: Mapping[str, str], name: str) -> Any:
    """The class of a name. Raises KeyError where the registry, which is called `table`, does not have it, and BadInput
    for an entry behind which there is no class."""
    entry = registry[name]
    module, _, attribute = entry.partition(":")
    where = f"{table}: {name!r}"
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise BadInput(f"{where} must be 'module:Class', not {entry!r}")
    try:
        loaded = import_module(module)
    except (
        Exception
    ) as error:  # a file of somebody else's: whatever is wrong with it, the programs that do not need it start
        raise BadInput(f"{where}: {entry!r} cannot be imported: {one_line(error)}") from None
    if not isinstance(found := getattr(loaded, attribute, None), type):
        raise BadInput(f"{where}: the module {module} has no class {attribute}")
    return found
