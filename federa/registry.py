"""Plug-ins by name: a registry maps a name to "module:Class". The module is imported when the class is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_class(entry: str) -> Any:
    """The class behind "module:Class". Raises ImportError or AttributeError where there is none."""
    module, _, attribute = entry.partition(":")
    return getattr(import_module(module), attribute)
