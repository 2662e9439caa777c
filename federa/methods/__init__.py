"""The methods that can be compared, by name. A new one is a file beside this one and a line in METHODS."""

from __future__ import annotations

from importlib import import_module

from federa.methods.base import Method

METHODS = {
    "ft": "federa.methods.ft:FullFineTuning",
    "lora": "federa.methods.lora:LoRA",
    "federa": "federa.methods.federa:FeDeRA",
}


def method_class(name: str) -> type[Method]:
    """The class of a method. Raises KeyError for a name that is not in METHODS."""
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found
