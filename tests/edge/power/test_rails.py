"""Which rails are a board's total. The numbers of each case are its own."""

from __future__ import annotations

import pytest

from edge.board_names import BOARDS
from edge.power.rails import Total, module_chips, total_of

ORIN = {"VDD_IN": 5000.0, "VDD_CPU_GPU_CV": 900.0, "VDD_SOC": 1000.0}
AGX_ORIN = {"VDD_GPU_SOC": 2400.0, "VDD_CPU_CV": 400.0, "VIN_SYS_5V0": 4000.0, "VDDQ_VDD2_1V8AO": 300.0, "NC": 7.0}
XAVIER = {"GPU": 18401.0, "CPU": 2301.0, "SOC": 4602.0, "CV": 0.0, "VDDRQ": 2914.0, "SYS5V": 4632.0}
NANO = {"POM_5V_IN": 920.0, "POM_5V_GPU": 0.0, "POM_5V_CPU": 119.0}
TX2 = {"VDD_SYS_GPU": 192.0, "VDD_SYS_SOC": 529.0, "VDD_4V0_WIFI": 38.0, "VDD_IN": 3566.0, "VDD_SYS_CPU": 1156.0}
THOR = {"VDD_GPU": 1900.0, "VDD_CPU_SOC_MSS": 5800.0, "VIN_SYS_5V0": 5600.0}
CASES = [
    ("Orin Nano", ORIN, 5000, "module"),
    ("Orin NX", ORIN, 5000, "module"),
    ("AGX Orin", AGX_ORIN, 6800, "module"),
    ("Xavier NX", ORIN, 5000, "module"),
    ("TX2 NX", ORIN, 5000, "module"),
    ("AGX Xavier", XAVIER, 32850, "module"),
    ("Nano", NANO, 920, "board"),
    ("TX1", {"VDD_IN": 4000.0, "VDD_CPU": 500.0, "VDD_GPU": 700.0}, 4000, "module"),
    ("TX2", TX2, 3566, "module"),
    ("AGX Thor", {**THOR, "VIN": 19000.0}, 19000, "board"),
    ("AGX Thor", THOR, 13300, "module"),
]


@pytest.mark.parametrize(("board", "rails", "mw", "scope"), CASES)
def test_the_total_of_a_board(board, rails, mw, scope):
    assert total_of(rails, board) == Total(mw, scope)
    # A log does not say its board.
    assert total_of(rails) == Total(mw, scope)
    assert total_of({**rails, "NC": 1e6}, board).mw == mw


def test_the_cases_are_all_boards():
    assert {board for board, *_ in CASES} == set(BOARDS)


def test_an_unknown_board_has_rails_and_no_total():
    total = total_of(ORIN, "Seeed Something")
    assert (total.mw, total.scope) == (None, None)
    assert "Seeed Something" in str(total.warning)
    assert total_of({"A": 1.0, "B": 2.0}) == Total(None, None)
    assert total_of({}) == total_of({}, "Orin Nano") == Total(None, None)


@pytest.mark.parametrize(("board", "rails", "mw", "scope"), CASES)
def test_without_all_it_needs_there_is_no_total(board, rails, mw, scope):
    if "VIN" in rails:
        return
    first = next(name for name in rails if name in ("VDD_IN", "POM_5V_IN", "VDD_CPU_CV", "GPU", "VIN_SYS_5V0"))
    fewer = {name: mw for name, mw in rails.items() if name != first}
    total = total_of(fewer, board)
    assert total.mw is None
    assert first in str(total.warning)
    assert total_of(fewer).mw is None


def test_a_source_keeps_to_its_scope():
    rails = {"VDD_GPU": 1.0, "VDD_CPU_SOC_MSS": 2.0, "VIN_SYS_5V0": 3.0, "VIN": 9.0}
    for board in ("AGX Thor", None):
        assert total_of(rails, board, "module") == Total(6, "module")
        assert total_of(rails, board, "board") == Total(9, "board")
        assert total_of({**rails, "VIN": 9.0}, board, "package").mw is None
        del rails["VIN"]
        assert total_of(rails, board, "board").mw is None
        rails["VIN"] = 9.0
    assert "AGX Thor needs VIN" in str(total_of({"VDD_GPU": 1.0}, "AGX Thor", "board").warning)


def test_vddq_is_not_counted_twice():
    """jetson-stats adds every rail here."""
    assert total_of(AGX_ORIN).mw == sum(AGX_ORIN.values()) - AGX_ORIN["VDDQ_VDD2_1V8AO"] - AGX_ORIN["NC"]


def test_a_part_that_is_more_than_the_whole_is_told():
    swapped = {"VDD_IN": 900.0, "VDD_CPU_GPU_CV": 5000.0, "VDD_SOC": 1000.0}
    for board in ("Orin NX", None):
        total = total_of(swapped, board)
        assert total.mw == 900
        assert "VDD_CPU_GPU_CV (5000 mW) is more than VDD_IN (900 mW)" in str(total.warning)
    # The carrier's input, not a part of the module's.
    assert total_of({**TX2, "VDD_MUX": 9000.0}, "TX2").warning is None


@pytest.mark.parametrize(("board", "rails", "mw", "scope"), CASES)
@pytest.mark.parametrize("known", [True, False])
def test_a_rail_that_stands_twice_makes_no_total_of_any_scope(board, rails, mw, scope, known):
    for needed in ("VIN", "VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "CV"):
        if needed not in rails or ("VIN" in rails and needed == "VIN_SYS_5V0"):
            continue
        for among in (rails, {name: mw for name, mw in rails.items() if name != needed}):
            total = total_of(among, board if known else None, twice=[needed])
            assert (total.mw, total.scope) == (None, None)
            assert f"{needed} stands there twice" in str(total.warning)
    assert total_of(rails, board if known else None, twice=["VDD_MUX", "NC"]) == Total(mw, scope)


def test_the_chips_of_a_module_are_known_for_each_board():
    for board in BOARDS:
        assert module_chips(board)
        assert all(chip[1:4] == "-00" for chip in module_chips(board))
    assert module_chips(None) == module_chips("Acme") == ()
