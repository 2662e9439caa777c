"""Whatever wraps a log's lines, they say the same: rails, total and energy. Or there is none, with a word."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_wrappings import SILENT, TELLING, WRAPPINGS
from tegrastats_lines import LINES, THOR_R38

from benchmarks.tegrastats_log import TegrastatsLog
from edge.power.replay import Replay

STEP_S = 5
BEGAN_S = datetime(2025, 11, 4, 23, 59, 40, tzinfo=timezone.utc).timestamp()
DATE = re.compile(r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d ")
RAIL = re.compile(r"((?:VDD|VIN|POM|SYS5V|GPU|SOC|CV)\w* )(\d+)((?:mW)?/)(\d+)")


def log_of(lines: list[str], end: str = "\n") -> tuple[list[tuple], dict]:
    log = TegrastatsLog(io.BytesIO("".join(line + end for line in lines).encode()))
    samples = list(log.samples())
    return [(s["rails_mw"], s["total_mw"], s["scope"], s["temps_c"]) for s in samples], log.ending()


def series(line: str, dated: bool, count: int = 6) -> list[tuple[float, str]]:
    """A device's lines with their times, 5 s apart. The second has other rails, of which some are below zero."""
    bare = DATE.sub("", line)
    other = RAIL.sub(lambda m: f"{m[1]}{int(m[2]) - 398}{m[3]}-{m[4]}", bare)
    times = [BEGAN_S + STEP_S * i for i in range(count)]
    dates = [f"{datetime.fromtimestamp(at_s, timezone.utc):%m-%d-%Y %H:%M:%S} " if dated else "" for at_s in times]
    return [(at_s, date + (other if i == 1 else bare)) for i, (at_s, date) in enumerate(zip(times, dates, strict=True))]


def check(wrap, lines: list[tuple[float, str]], tells_time: bool, is_dated: bool) -> None:
    plain, plain_end = log_of([line for _, line in lines])
    samples, end = log_of([wrap(at_s, line) for at_s, line in lines])
    assert samples == plain
    assert end["scope"] == plain_end["scope"]
    timed = tells_time or is_dated
    assert end["interval_assumed"] is not timed and any("assumed" in line for line in end["remarks"]) is not timed
    # What is assumed without a time is a second.
    slower = STEP_S if tells_time and not is_dated else 1
    expected = plain_end["energy_j"]
    assert end["energy_j"] == (None if expected is None else pytest.approx(slower * expected, rel=1e-4))


@pytest.mark.parametrize("name", WRAPPINGS)
@pytest.mark.parametrize("dated", [True, False], ids=["dated", "undated"])
def test_a_wrapped_log_says_the_same(name: str, dated: bool):
    for line in LINES:
        check(WRAPPINGS[name], series(line, dated), name in TELLING, dated)


@given(st.sampled_from(LINES), st.sampled_from(sorted(WRAPPINGS)), st.sampled_from(sorted(WRAPPINGS)), st.booleans())
def test_so_does_one_that_is_wrapped_twice(line: str, inner: str, outer: str, dated: bool):
    def wrap(at_s: float, text: str) -> str:
        return WRAPPINGS[outer](at_s, WRAPPINGS[inner](at_s, text))

    check(wrap, series(line, dated), {inner, outer} & TELLING.keys() != set(), dated)


@given(st.sampled_from(LINES), st.sampled_from(sorted(SILENT)), st.integers(0, 700), st.sampled_from(["", "…", "..."]))
def test_a_line_that_was_cut_has_no_narrower_total(line: str, name: str, end: int, mark: str):
    """Unless it was cut between two fields, where a whole line may end as well."""
    text = DATE.sub("", line)
    (rails, whole_mw, whole_scope, _), *_ = log_of([text])[0]
    samples, last = log_of([SILENT[name](0.0, text[:end] + mark)])
    between = end >= len(text) or text[end] == " " or text[end - 1 : end] in ("", " ")
    for found, total_mw, scope, _ in samples:
        if name not in ("commas for blanks", "grep in colours"):
            assert found.items() <= rails.items()
        if mark or not between:
            assert (total_mw, scope) in ((None, None), (whole_mw, whole_scope))
            if total_mw is None and len(found) == len(rails) - 1 and whole_mw is not None:
                assert last["remarks"]


def test_one_object_of_json_may_hold_many_lines():
    lines = [line for _, line in series(LINES[0], True)]
    pushed = {"streams": [{"stream": {"job": "stats"}, "values": [["1762220810000000000", line] for line in lines]}]}
    twice = [json.dumps({"message": line, "event": {"original": f"13 {line}"}}) for line in lines]
    assert log_of(twice) == log_of(lines), "a line under two keys is one line"
    for text in (json.dumps(pushed), json.dumps(lines), json.dumps({"output": "\n".join(lines)})):
        assert log_of([text]) == log_of(lines)


@pytest.mark.parametrize("cut", [" VIN 19000mW/1mW", "N 19000mW/1mW", "19000mW/1mW", "mW/1mW"])
@pytest.mark.parametrize("mark", ["…", ">", " ...", ""])
def test_without_the_input_rail_thor_has_no_total(cut: str, mark: str):
    lines = [THOR_R38.removesuffix(cut) + mark] * 6
    if not mark:  # others end between two rails, and tell nothing
        lines[::2] = [THOR_R38.rpartition(" VIN ")[0]] * 3
    _, end = log_of(lines)
    if (cut, mark) != (" VIN 19000mW/1mW", ""):
        assert (end["energy_j"], end["scope"]) == (None, None) and "could not be read" in end["remarks"][0]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\r\n", "", "\\n"])
def test_lines_end_in_any_way(end: str):
    lines = [line for _, line in series(LINES[0], True)]
    assert log_of(lines, end) == log_of(lines)


def test_a_replay_reads_them_as_well(tmp_path):
    path = tmp_path / "a.log"
    for name in WRAPPINGS:
        path.write_text("".join(WRAPPINGS[name](at_s, line) + "\n" for at_s, line in series(THOR_R38, False)))
        source = Replay(path, clock=lambda: 0.0)
        assert source.scope == "board"
        assert source.readings()[0].total_mw == 19000
        assert ("interval assumed (1000 ms)" in source.detail) is (name in SILENT)
        assert ("30 s" if name in TELLING else "6 s") in source.detail
