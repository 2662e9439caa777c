"""Which rails make up a board's total.

Rails overlap: one may feed another, so no sum of all of them is right, and only a board that is in this table has a
total. Sources: NVIDIA's Developer Guides ("Jetson board power", the tables of INA3221 channels) and real logs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edge.board_names import board_of
from federa.errors import shown

SCOPES = ("board", "module")
"""What a total covers, the widest first."""
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Total:
    """The whole of what a board's rails say."""

    mw: float | None
    scope: str | None
    """One of SCOPES; None where there is no total."""
    warning: str | None = None
    """In one line: why there is none, or what does not fit."""
    refused: str | None = None
    """The scope that it would have if nothing had been lost of the rails."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to a total: these rails are added. `within` are parts of it."""

    rails: tuple[str, ...]
    scope: str
    within: tuple[str, ...] = ()


_MODULE_INPUT = _Way(("VDD_IN",), "module", ("VDD_CPU_GPU_CV", "VDD_CPU_GPU", "VDD_SOC"))
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
# Where a module's own sensors are: I2C bus and address, as /sys names a chip. A carrier may have more of them, and give
# their rails the same labels. From NVIDIA's device trees and trees of real boards; Thor's second one is its INA238.
_MODULE_CHIPS = {
    "Orin Nano": ("1-0040",),
    "Orin NX": ("1-0040",),
    "AGX Orin": ("1-0040", "1-0041"),
    "Xavier NX": ("7-0040",),
    "TX2 NX": ("7-0040",),
    "AGX Xavier": ("1-0040", "1-0041"),
    "Nano": ("6-0040",),
    "TX1": ("1-0040",),
    "TX2": ("0-0040", "0-0041"),
    "AGX Thor": ("2-0040", "2-0044"),
}


def module_chips(board: str | None) -> tuple[str, ...]:
    """The sensors that are on the board's module; none where they are not known."""
    return _MODULE_CHIPS.get(board_of(board) or "", ()) if board else ()


def total_of(
    rails_mw: Mapping[str, float],
    board: str | None = None,
    scope: str | None = None,
    twice: Collection[str] = (),
    unread: Collection[str] = (),
) -> Total:
    """The total by the board's way. `board` is a model's text or a short name; None judges by the rails alone, as is
    right for a log whose board nobody knows. Without every rail that is needed there is no total. With a `scope` there
    is none of another: a source keeps to the one that it began with. The names in `twice` stand at several sensors, and
    which one is meant is not known: with such a rail there is no total. `unread` are words of which one may have been a
    rail: then only a total of the board's widest scope is one, as a narrower one may lack just that rail."""
    # NC, a channel that leads nowhere, is in no way, and so never counts.
    known = None
    if board is None:
        ways = _by_rails({*rails_mw, *twice})
    else:
        known = board_of(board)
        if known is None:
            return Total(None, None, f"no total is known for the board '{shown(board)}'")
        ways = _WAYS[known]
    ways = tuple(way for way in ways if scope in (None, way.scope))
    refused = None
    for way in ways:
        if unread and way.scope != ways[0].scope:
            refused = way.scope if all(name in rails_mw for name in way.rails) else None
            break
        # Nor one of the ways after it: that would be of a narrower scope.
        for name in way.rails:
            if name in twice:
                return Total(None, None, f"no total: {name} stands there twice, and which is the module's is not known")
        if all(name in rails_mw for name in way.rails):
            return _sum(rails_mw, way)
    if unread and rails_mw and ways:
        words = ", ".join(shown(word, 40) for word in list(dict.fromkeys(unread))[:_MAX_NAMED])
        return Total(None, None, f"no total: could not be read: {words}", refused)
    if known is None:
        # A set of rails most of which are there tells its board as well.
        ways = tuple(way for way in ways if 2 * len(rails_mw.keys() & way.rails) > len(way.rails))
    if not rails_mw or not ways:
        return Total(None, None)
    missing = [name for name in ways[-1].rails if name not in rails_mw]
    return Total(None, None, f"no total: {known or 'a board of these rails'} needs {', '.join(missing)} too")


def _by_rails(rails: Collection[str]) -> tuple[_Way, ...]:
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
