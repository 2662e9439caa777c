"""A grid shows all of its texts, however narrow the terminal is."""

from __future__ import annotations

import io

import pytest
from report_samples import make_result, make_run
from rich.console import Console
from rich.text import Text

from coordinator.report.grid import Grid
from coordinator.report.terminal import device_table, phase_table, summary


def drawn(grid: Grid, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(grid)
    return console.export_text().splitlines()


def letters(lines: list[str]) -> str:
    return "".join(sign for line in lines for sign in line if sign.isalnum() or sign in ".[]")


def grid() -> Grid:
    made = Grid(("method", "best"), left=frozenset({"method"}))
    made.add("federa", "0.9341\nof 334 examples")
    made.add("[bold]lora", Text("0.8765"))
    return made


def test_a_row_is_a_line_where_it_fits() -> None:
    lines = drawn(grid(), 60)
    assert any("federa" in line and "0.9341" in line for line in lines)
    assert any("[bold]lora" in line and "0.8765" in line for line in lines)


def test_where_it_does_not_fit_rows_become_columns() -> None:
    lines = drawn(grid(), 30)
    assert all(len(line) <= 30 for line in lines)
    assert [line for line in lines if "best" in line and "0.9341" in line]
    assert [line for line in lines if "best" in line and "0.8765" in line]
    assert "of 334 examples" in "\n".join(lines)


@pytest.mark.parametrize("width", [30, 40, 80, 100, 120, 200])
@pytest.mark.parametrize("make", [summary, device_table, phase_table])
def test_nothing_is_cut_off(make, width: int) -> None:
    runs = [make_run(method) for method in ("ft", "bitfit", "adapter", "lora", "federa")]
    runs[0]["devices"][0]["name"] = "orin-nano-" + "x" * 90
    lines = drawn(made := make(make_result(*runs)), width)
    assert "…" not in "".join(lines)
    assert all(len(line) <= width for line in lines)
    shown = letters(lines)
    for row in made.rows:
        for cell in row:
            for part in cell.plain.split("\n"):
                # A value of some words may be wrapped; the only one that is wider than a terminal is the name.
                assert "x" * 20 in part or letters([part]) in shown
    assert shown.count("x") >= 90 if make is not summary else True


def test_control_characters_of_a_result_are_escaped() -> None:
    run = make_run()
    run["method"] = "a\x1b[2Jb"
    run["devices"][0]["board"] = "x\x9b31m"
    text = "\n".join(
        line for make in (summary, device_table, phase_table) for line in drawn(make(make_result(run)), 200)
    )
    assert "\x1b" not in text and "\x9b" not in text and "a\\x1b[2Jb" in text and "x\\x9b31m" in text
