"""A file of tegrastats' lines on one time line: dates in steps of a second, clocks that were set, bytes of any kind."""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import pytest

from edge.power.tegrastats_file import LogSample, TegrastatsFile

START = datetime(2026, 3, 1, 12, 0, 0)
RAM = "RAM 1/2MB"


def dated(second: float) -> str:
    return f"{START + timedelta(seconds=second):%m-%d-%Y %H:%M:%S} {RAM}"


def read(lines: list[str], interval_s: float | None = None, **how: float) -> tuple[list[LogSample], TegrastatsFile]:
    file = TegrastatsFile(io.BytesIO("".join(f"{line}\n" for line in lines).encode()), interval_s, **how)
    return list(file.samples()), file


def times(lines: list[str], interval_s: float | None = None, **how: float) -> list[float]:
    return [round(sample.t_s, 6) for sample in read(lines, interval_s, **how)[0]]


def test_a_second_that_began_or_ended_in_the_middle_takes_no_whole_second():
    lines = [dated(second) for second in (0, *[1] * 4, *[2] * 4, *[3] * 4, *[4] * 2)]
    assert times(lines) == [i / 4 for i in range(15)]
    tenths = [dated((at + 7) // 10) for at in range(25)]
    assert times(tenths, interval_s=0.1) == [at / 10 for at in range(25)]
    assert times(tenths) == [at / 10 for at in range(25)]


def test_so_does_one_beside_a_gap():
    lines = [dated(second) for second in (*[0] * 4, 1, 8, *[9] * 4, *[10] * 4, *[11] * 4)]
    assert times(lines) == [0, 0.25, 0.5, 0.75, 1, 8.75, *(9 + i / 4 for i in range(12))]


@pytest.mark.parametrize(
    ("seconds", "interval_s"),
    [((0, 5, 10), 5), ((0, 10, 11), 1), ((0, 1, 11, 12), 1), ((0, 5), 1), ((0,), 1), ((), 1), ((5, 0, -5), 1)],
)
def test_the_interval_of_a_short_log_is_not_a_gaps(seconds: tuple[int, ...], interval_s: float):
    assert read([dated(second) for second in seconds])[1].interval_s == interval_s


def test_a_clock_that_was_set_is_a_step_of_one_interval():
    seconds = [0, 60, 1e8, 1e8 + 60, -180, 1620]
    samples, _ = read([dated(second) for second in seconds], longest_step_s=3600)
    assert [sample.t_s for sample in samples] == [0, 60, 120, 180, 240, 240 + 1800]
    assert [sample.follows for sample in samples] == [True, True, False, True, False, True]


def test_a_line_that_lost_its_date_has_the_one_before_it():
    lines = ["WARNING", dated(1), dated(2), RAM, dated(3), dated(4)]
    assert times(lines) == [0, 1, 1.5, 2, 3]


def test_lines_that_are_not_understood_take_no_time():
    samples, file = read([RAM, "WARNING: not invoking as root", "", RAM], interval_s=0.5)
    assert [(sample.line, sample.t_s, sample.text) for sample in samples] == [(1, 0, RAM), (4, 0.5, RAM)]
    assert file.skipped == 1


def test_a_date_behind_a_journals_own_is_found():
    lines = [f"Mar 01 12:00:0{second} ubuntu tegrastats[812]: {dated(second)}" for second in (0, 1, 3)]
    assert times(lines) == [0, 1, 3]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_files_that_other_systems_wrote(encoding: str):
    text = "".join(f"{dated(second)}\r\n" for second in range(3))
    samples = list(TegrastatsFile(io.BytesIO(text.encode(encoding))).samples())
    assert [(sample.t_s, sample.read.unknown) for sample in samples] == [(0, []), (1, []), (2, [])]


def test_a_block_of_zeros_that_a_power_cut_left_hides_no_line():
    samples = list(TegrastatsFile(io.BytesIO(b"\0" * 5000 + dated(0).encode())).samples())
    assert [sample.read.moment for sample in samples] == [START]
