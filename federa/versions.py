"""Versions of what decides a result, as they are compared, recorded and reported on every side."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

from federa import __version__

_PACKAGES = ("torch", "transformers", "peft", "safetensors", "numpy", "grpcio", "protobuf")


def versions() -> dict[str, str]:
    """This installation's versions by name; a package that is not installed is left out."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    # Each package's metadata is a file: a thousand workers that join at once would be welcomed one every 8 ms.
    found = {"federa": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
