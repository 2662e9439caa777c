"""The boards whose rails are known, and the words by which a device tree or a person names them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from federa.errors import BadInput, shown

BOARDS = (
    "Orin Nano",
    "Orin NX",
    "AGX Orin",
    "Xavier NX",
    "TX2 NX",
    "AGX Xavier",
    "Nano",
    "TX1",
    "TX2",
    "AGX Thor",
)

# NVIDIA's numbers of modules (Developer Guides, "Jetson EEPROM layout"), and those of the kits by which trees of r28 to
# r32 and the mainline kernel's name TX1, TX2, AGX Xavier and Nano. p3767 is either Orin NX or Orin Nano: see there.
_NUMBERS = {
    "2180": "TX1",
    "2371": "TX1",
    "3310": "TX2",
    "3489": "TX2",
    "2771": "TX2",
    "3636": "TX2 NX",
    "2888": "AGX Xavier",
    "2972": "AGX Xavier",
    "3668": "Xavier NX",
    "3448": "Nano",
    "3450": "Nano",
    "3701": "AGX Orin",
    "3834": "AGX Thor",
}
_ORIN_NX = ("0000", "0001", "0002")
_NANO_2GB = ("3448", "0003")
# `p3767-0005`, `p3668-0000-a01`, `lanai-3636`: a number of four digits, and the kind of that module.
_NUMBER = re.compile(r"(?:\bp|-)(\d{4})(?!\d)(?:-(\d{4})(?!\d))?")
# Names without a number, of r28 to r32.
_CODENAMES = {
    "jetson-cv": "TX1",
    "quill": "TX2",
    "storm": "TX2",
    "lightning": "TX2",
    "lanai": "TX2 NX",
    "galen": "AGX Xavier",
    "galen-industrial": "AGX Xavier",
    "jetson-xavier": "AGX Xavier",
    "jetson-xavier-industrial": "AGX Xavier",
    "jetson-agx": "AGX Xavier",
    "jetson-nano": "Nano",
}

# The words of a model's text, and the board that they mean; the first that fits.
_WORDS: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(words.split()), board)
    for words, board in (
        ("orin nano", "Orin Nano"),
        ("orin nx", "Orin NX"),
        ("agx orin", "AGX Orin"),
        ("thor", "AGX Thor"),
        ("xavier nx", "Xavier NX"),
        ("agx xavier", "AGX Xavier"),
        ("tx2 nx", "TX2 NX"),
        ("tx2", "TX2"),
        ("tx2i", "TX2"),
        ("tx1", "TX1"),
    )
)


def board_of(text: str) -> str | None:
    """The board that a model's text (/proc/device-tree/model) or a short name means; None: none that is known."""
    lower = text.lower()
    words = frozenset(re.findall(r"[a-z0-9]+", lower))
    for wanted, board in _WORDS:
        if wanted <= words:
            return board
    if "nano" in words:
        # The one with 2 GB has no sensor.
        return None if "2gb" in words else "Nano"
    return _CODENAMES.get(lower.replace("_", "-")) or _by_number([lower])


def board_in(compatible: Iterable[str]) -> str | None:
    """The board that NVIDIA's entries of a device tree's `compatible` name; None: none that is known."""
    entries = [entry.removeprefix("nvidia,") for entry in compatible if entry.startswith("nvidia,")]
    if any("-".join(_NANO_2GB) in entry for entry in entries):
        return None  # its other entries are the Nano's
    return _by_number(entries) or next((_CODENAMES[entry] for entry in entries if entry in _CODENAMES), None)


def check_board(name: str) -> str:
    """The board that --board names. Raises BadInput for one that is not in the table."""
    board = board_of(name)
    if board is None:
        raise BadInput(f"--board: no board '{shown(name)}' is known; it may be {', '.join(BOARDS)}")
    return board


def _by_number(texts: Iterable[str]) -> str | None:
    """The first number that is a module's or a kit's."""
    for text in texts:
        for number, kind in _NUMBER.findall(text):
            if number == "3767":
                return "Orin NX" if kind in _ORIN_NX else "Orin Nano"
            # p2597-2180 is a carrier and its module.
            if board := _NUMBERS.get(number) or _NUMBERS.get(kind):
                return board
    return None
