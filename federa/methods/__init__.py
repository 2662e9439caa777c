"""The methods that can be compared, by name. A new one is a file beside this one and a line in METHODS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federa.registry import load_class

if TYPE_CHECKING:
    from federa.methods.base import Method

METHODS = {
    "ft": "federa.methods.ft:FullFineTuning",
    "bitfit": "federa.methods.bitfit:BitFit",
    "adapter": "federa.methods.adapter:Adapter",
    "lora": "federa.methods.lora:LoRA",
    "federa": "federa.methods.federa:FeDeRA",
}


def method_class(name: str) -> type[Method]:
    """The class of a method. Raises KeyError for a name that is not in METHODS, BadInput
    where its entry leads to no class."""
    found: type[Method] = load_class("METHODS", METHODS, name)
    return found
