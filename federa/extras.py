"""How a part of federa that was left out of an installation is added to it."""

from __future__ import annotations


def how_to_add(extra: str) -> str:
    """The command that installs one of setup.cfg's extras, as part of a sentence.

    It names a clone: federa is on no package index, and what PyPI calls `federa` is another project.
    """
    return f"pip install -e '.[{extra}]' in a clone of federa"
