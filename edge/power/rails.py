"""Which rails make up a board's total.

Rails overlap: one may feed another, so no sum of all of them is right, and only a board that is in this table has a
total. Sources: NVIDIA's Developer Guides ("Jetson board power", the tables of INA3221 channels) and real logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from federa.errors import BadInput


@dataclass(frozen=True, slots=True)
class Total:
    """The whole of what a board's rails say."""

    mw: float | None
    scope: str | None
    """module or board; None where there is no total."""
    warning: str | None = None
    """In one line: why there is none, or what does not fit."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to a total: these rails are added. `within` are parts of it."""

    rails: tuple[str, ...]
    scope: str
    within: tuple[str, ...] = ()


_MODULE_INPUT = _Way(("VDD_IN",), "module", ("VDD_CPU_GPU_CV", "VDD_SOC"))
# The carriers of TX1 and TX2 have rails of their own (VDD_MUX feeds VDD_IN): only the module's are parts of it.
_TX_INPUT = _Way(
    ("VDD_IN",),
    "module",
    ("VDD_CPU", "VDD_GPU", "VDD_SYS_CPU", "VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_SYS_DDR", "VDD_4V0_WIFI"),
)
# VDDQ_VDD2_1V8AO is fed from VIN_SYS_5V0: added, it would count twice.
_AGX_ORIN = _Way(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "module", ("VDDQ_VDD2_1V8AO",))
_AGX_XAVIER = _Way(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), "module")
_NANO = _Way(("POM_5V_IN",), "board", ("POM_5V_GPU", "POM_5V_CPU"))
_THOR_RAILS = ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")
# VIN where it is there, else what the module's rails add up to.
_THOR = (_Way(("VIN",), "board", _THOR_RAILS), _Way(_THOR_RAILS, "module"))

_WAYS: dict[str, tuple[_Way, ...]] = {
    "Orin Nano": (_MODULE_INPUT,),
    "Orin NX": (_MODULE_INPUT,),
    "AGX Orin": (_AGX_ORIN,),
    "Xavier NX": (_MODULE_INPUT,),
    "TX2 NX": (_MODULE_INPUT,),
    "AGX Xavier": (_AGX_XAVIER,),
    "Nano": (_NANO,),
    "TX1": (_TX_INPUT,),
    "TX2": (_TX_INPUT,),
    "AGX Thor": _THOR,
}
BOARDS = tuple(_WAYS)

# The words of a model's text, and the board that they mean; the first that fits. "Jetson-AGX" is the AGX Xavier of r32,
# "quill" the TX2 of r28 to r32. The Nano with 2 GB has no sensor.
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
        ("quill", "TX2"),
        ("tx1", "TX1"),
    )
)


def board_of(model: str) -> str | None:
    """The board of this table that a model's text (/proc/device-tree/model) or a short name means; None: none."""
    words = frozenset(re.findall(r"[a-z0-9]+", model.lower()))
    for wanted, board in _WORDS:
        if wanted <= words:
            return board
    if words == {"jetson", "agx"}:
        return "AGX Xavier"
    return "Nano" if "nano" in words and "2gb" not in words else None


def check_board(name: str) -> str:
    """The board that --board names. Raises BadInput for one that is not in the table."""
    board = board_of(name)
    if board is None:
        raise BadInput(f"--board: no board {name!r} is known; it may be {', '.join(BOARDS)}")
    return board


def total_of(rails_mw: Mapping[str, float], board: str | None = None, scope: str | None = None) -> Total:
    """The total by the board's way. `board` is a model's text or a short name; None judges by the rails alone, as is
    right for a log whose board nobody knows. Without every rail that is needed there is no total. With a `scope` there
    is none of another: a source keeps to the one that it began with."""
    # NC, a channel that leads nowhere, is in no way, and so never counts.
    known = None
    if board is None:
        ways = _by_rails(rails_mw)
    else:
        known = board_of(board)
        if known is None:
            return Total(None, None, f"no total is known for the board {board!r}")
        ways = _WAYS[known]
    ways = tuple(way for way in ways if scope in (None, way.scope))
    for way in ways:
        if all(name in rails_mw for name in way.rails):
            return _sum(rails_mw, way)
    if known is None or not rails_mw or not ways:
        return Total(None, None)
    missing = [name for name in ways[-1].rails if name not in rails_mw]
    return Total(None, None, f"no total: {known} needs {', '.join(missing)} too")


def _by_rails(rails: Mapping[str, float]) -> tuple[_Way, ...]:
    """The way that a set of rails itself tells."""
    if "POM_5V_IN" in rails:
        return (_NANO,)
    if "VDD_CPU_SOC_MSS" in rails:
        return _THOR
    if "VDD_IN" in rails:
        return (_MODULE_INPUT,) if "VDD_CPU_GPU_CV" in rails else (_TX_INPUT,)
    return _AGX_ORIN, _AGX_XAVIER


def _sum(rails: Mapping[str, float], way: _Way) -> Total:
    total = sum(rails[name] for name in way.rails)
    part = max((name for name in way.within if name in rails), key=rails.__getitem__, default=None)
    if part is None or rails[part] <= total:
        return Total(total, way.scope)
    # Some carriers label their rails wrongly.
    whole = " + ".join(way.rails)
    return Total(total, way.scope, f"{part} ({rails[part]:g} mW) is more than {whole} ({total:g} mW): labels swapped?")
