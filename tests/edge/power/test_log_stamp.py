"""Timestamps that other programs put beside a line: each form, what is none, and what begins again."""

from __future__ import annotations

import pytest

from edge.power.log_stamp import StampClock, stamp_in
from edge.power.log_text import plain

PAIRS = {
    "2025-11-04T01:46:50Z": "2025-11-04T01:46:55Z",
    "2025-11-04T01:46:50.25+01:00": "2025-11-04T00:46:55.25Z",
    "2025-11-04T01:46:50-0800": "2025-11-04T09:46:55+0000",
    "2025-11-04 01:46:59,999 INFO": "2025-11-04 01:47:04,999 INFO",
    "2025/12/31 23:59:58": "2026/01/01 00:00:03",
    "[04/Nov/2025:01:46:50 +0000]": "[04/Nov/2025:02:46:55 +0100]",
    "Tue Nov  4 01:46:50 UTC 2025": "Tue Nov  4 01:46:55 UTC 2025",
    "Nov 04 01:46:50 orin-1 stats[8]:": "Nov 04 01:46:55 orin-1 stats[8]:",
    "Dec 31 23:59:58.5 orin": "Jan 01 00:00:03.5 orin",
    "1762220810": "1762220815",
    "1762220810.5 orin": "1762220815.5 orin",
    "(1762220810123)": "(1762220815123)",
    "17,1762220810123456,": "18,1762220815123456,",
    "1762220810123456789": "1762220815123456789",
    "[  812.345678] orin": "[  817.345678] orin",
    "0.000012": "5.000012",
    "[23:59:58]": "[00:00:03]",
    "11:59:58 AM": "12:00:03 PM",
    "12/31/2025 23:59:58": "01/01/2026 00:00:03",
}


@pytest.mark.parametrize(("first", "second"), PAIRS.items())
def test_two_stamps_are_so_many_seconds_apart(first: str, second: str):
    clock = StampClock()
    stamps = [stamp_in(plain(text)) for text in (first, second)]
    assert None not in stamps and stamps[0].kind == stamps[1].kind
    began_s, ended_s = (clock.seconds(stamp) for stamp in stamps if stamp is not None)
    assert ended_s - began_s == pytest.approx(5, abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "", "tegra-1", "17", "log.txt:12:", "stats[812]:", "10.0.0.5", "loss 0.123", "v1.2", "0123456789",
        "99999999999", "2025-11-04", "aa:bb:01:02:03:04", "99:99:99", "id 17622208101", "step 3/100", "12:30",
    ],
)  # fmt: skip
def test_what_is_no_time_is_none(text: str):
    assert stamp_in(text) is None


def test_a_clock_that_is_set_back_a_little_does_not_begin_again():
    clock, stamps = StampClock(), [stamp_in(f"00:0{minute}:00") for minute in (5, 4, 6)]
    assert [clock.seconds(stamp) for stamp in stamps if stamp is not None] == [300, 240, 360]
