"""Every form of a line of tegrastats, and every way in which a line can be broken.

Where jetson-stats (7.2.2) can be imported its own parser must agree. Known differences, in all of which ours is meant:
it takes `MTS bg` from the number of `MTS fg`; PMIC's constant and -256 C are temperatures to it; of a name printed
twice it keeps the last, not the first; it finds no core in `cpu [17%,13%]@408` (r28); it knows no date, only cuts it
off; a rail may be any `NAME 1/2`; the clock of an engine at the very end of a line loses its last digit, and its load
with it. Its total adds every rail where there is no VIN, POM_5V_IN or VDD_IN, so that VDDQ counts twice on AGX Orin
(test_rails.py).
"""

from __future__ import annotations

import math
import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tegrastats_lines import (
    AGX_ORIN_R35,
    AGX_ORIN_R39,
    LINES,
    NANO_R32,
    ORIN_R36,
    THOR_R38,
    TX1_R28,
    TX2_R28,
    USER_R36,
    XAVIER_R32,
)

from edge.power.tegrastats_line import Line, Use, parse_line


def read(text: str) -> Line:
    line = parse_line(text)
    assert line is not None
    return line


@pytest.mark.parametrize("text", LINES)
def test_nothing_of_a_whole_line_is_unknown(text):
    assert read(text).unknown == []


def test_a_line_of_an_orin_nano():
    line = read(ORIN_R36)
    assert line.moment == datetime(2026, 1, 2, 3, 4, 5)
    assert line.rails_mw == {"VDD_IN": 5120, "VDD_CPU_GPU_CV": 900, "VDD_SOC": 1012}
    assert (line.gpu_load, line.gpu_mhz) == (39, 305)
    assert line.temps_c == {"cpu": 44.125, "soc2": 43, "tj": 44.531}
    assert line.offline == ["cv0"]
    assert (line.ram_mb, line.swap_mb) == ((3000, 7620), (236, 3810))
    assert line.cpus == [Use(1, 729), None, None, Use(4, 1510)]
    assert line.emc == Use(12, 204)
    assert line.engines == {"NVENC": None, "NVDEC": Use(mhz=729), "NVJPG1": None, "APE": Use(mhz=200)}


def test_a_line_of_an_agx_orin():
    line = read(AGX_ORIN_R35)
    assert line.rails_mw["NC"] == 5
    assert line.repeated == ["NC"]
    assert (line.gpu_load, line.gpu_mhz) == (7, 1300)
    assert line.engines == {"GR3D2": Use(0, 0), "VIC": Use(mhz=729), "APE": Use(mhz=174)}
    assert line.swap_mb is None


def test_jetpack_7_prints_current_before_peak():
    line = read(AGX_ORIN_R39)
    assert line.temps_c == {"cpu": 50.5}
    assert line.rails_mw == {"VDD_GPU_SOC": 5100, "VDD_CPU_CV": 3200, "VIN_SYS_5V0": 5500}
    assert (line.gpu_load, line.gpu_mhz) == (12, 1300)
    assert line.engines["PVA0"] is None


def test_thor_tells_clocks_and_no_load():
    line = read(THOR_R38)
    assert (line.gpu_load, line.gpu_mhz) == (None, 414)
    assert line.engines == {"NVENC0": Use(mhz=314), "VIC": None, "OFA": Use(mhz=315)}
    assert line.rails_mw["VIN"] == 19000


def test_agx_xavier_uses_the_name_cpu_three_times():
    line = read(XAVIER_R32)
    assert line.cpus == [Use(17, 1190), Use(18, 1574)]
    assert line.temps_c == {"AO": 48, "GPU": 54.5, "CPU": 49}
    assert line.rails_mw == {"GPU": 18401, "CPU": 2301, "SOC": 4602, "CV": 0, "VDDRQ": 2914, "SYS5V": 4632}
    assert line.offline == ["PMIC"]
    assert line.repeated == []
    assert line.engines == {"APE": Use(mhz=150), "MTS fg": Use(load=3), "MTS bg": Use(load=10)}


def test_memory_and_engines_are_no_rails_though_they_have_no_unit():
    line = read(NANO_R32)
    assert line.rails_mw == {"POM_5V_IN": 920, "POM_5V_GPU": 0, "POM_5V_CPU": 119}
    assert line.offline == ["PMIC"]
    assert line.engines == {"APE": Use(mhz=25)}


def test_old_forms():
    line = read(TX2_R28)
    assert (line.gpu_load, line.gpu_mhz) == (None, 0)
    assert line.rails_mw == {"VDD_SYS_GPU": 192, "VDD_4V0_WIFI": 38, "VDD_IN": 3566}
    line = read(TX1_R28)
    assert line.cpus == [Use(17, 408), Use(13, 408)]
    assert (line.emc, line.gpu_load, line.gpu_mhz) == (Use(1, 408), 3, 76)


def test_missing_is_none_and_never_0():
    line = read(USER_R36)
    assert (line.gpu_load, line.gpu_mhz, line.emc, line.moment) == (0, None, Use(mhz=2133), None)
    line = read("RAM 1/2MB")
    assert (line.gpu_load, line.gpu_mhz, line.emc, line.swap_mb) == (None, None, None, None)
    assert not line.rails_mw
    assert not line.temps_c
    assert not line.cpus


@pytest.mark.parametrize("text", LINES)
def test_blanks_may_be_irregular(text):
    assert read("  \t" + text.replace(" ", "  \t ") + " \r\n") == read(text)
    assert read(text.replace(",", " , ")) == read(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "WARNING: not invoking as root",
        "ERROR: exits as an instance (pid = 1234) exists",
        "# Jetson Orin Nano 8GB, L4T r36",
        "01-02-2026 03:04:05",
        "ready in 3/4 steps 12",
        "STEP 1/100 of EPOCH 2/3",
        "\0\x1b[31m\ufffd",
    ],
)
def test_what_is_no_line_is_none(text):
    assert parse_line(text) is None


def test_the_rest_of_a_line_whose_beginning_was_cut_is_one():
    assert read("FREQ 0%@76 POM_5V_IN 920/921 POM_5V_CPU 119/119").rails_mw == {"POM_5V_IN": 920, "POM_5V_CPU": 119}


def test_colours_of_a_terminal_hide_nothing():
    coloured = " ".join(f"\x1b[1;32m{word}\x1b[0m" for word in USER_R36.split())
    assert read(coloured) == read(USER_R36)


def test_a_warning_that_is_mixed_into_a_line_is_listed():
    line = read(f"WARNING: not invoking as root {USER_R36}")
    assert line.unknown == ["WARNING:", "not", "invoking", "as", "root"]
    assert line.rails_mw == {"VDD_IN": 4304}


def test_what_is_not_understood_is_listed_and_the_rest_is_read():
    line = read("13-45-2026 03:04:05 RAM 1/2MB ??? NEW@ 12% VDD_IN 5mW/5mW VDD_SOC 12")
    assert line.moment is None
    assert line.rails_mw == {"VDD_IN": 5}
    assert line.unknown == ["13-45-2026", "03:04:05", "???", "NEW@", "12%", "VDD_SOC", "12"]


@pytest.mark.parametrize("number", ["1e400", "9" * 30, "9" * 5000, "--1", "nan", "inf", "1.2.3", "٣٣"])
def test_absurd_numbers_are_no_numbers(number):
    line = read(
        f"RAM 1/2MB cpu@{number}C VDD_IN {number}mW/1mW POM_5V_IN {number}/1 GR3D_FREQ {number}%@{number} APE {number}"
    )
    assert (line.rails_mw, line.gpu_load, line.gpu_mhz) == ({}, None, None)
    assert line.temps_c in ({}, {"cpu": -1})


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ("VDD_IN {}/{} VDD_SOC {}/{}", (-920, -3, -40, 0)),
        ("VDD_IN {}mW/{}mW VDD_SOC {}mW/{}mW", (-398, -398, 398, -132)),
        ("VDD_IN {}mW/{}mW/{}mW VDD_SOC {}mW/{}mW/{}mW", (-398, -3, -1, 0, -99, 797)),
        ("VDD_IN {} mW / {} mW VDD_SOC {} mW / {} mW", (-398, 0, -1, -1)),
        ("VDD_IN {}mW/{}mW VDD_SOC {}mW/{}", (5, "nan", 6, "-")),
        ("VDD_IN {}/{} VDD_SOC {}/{}", (5, "nan", 6, "-")),
    ],
)
def test_a_rail_may_be_below_zero_and_no_average_or_peak_costs_it(form, values):
    line = read(f"RAM 1/2MB {form.format(*values)}")
    assert line.rails_mw == {"VDD_IN": values[0], "VDD_SOC": values[len(values) // 2]}


@pytest.mark.parametrize(
    "damaged",
    ["4294966898mW/1mW", "5\ufffd20mW/1mW", "5,120mW/1mW", "٣5120mW/1mW", "5120W/1W", "mW/1mW", "5120m", "--5mW/1mW"],
)
def test_a_number_that_is_damaged_is_no_other_number(damaged):
    line = read(f"RAM 1/2MB VDD_IN {damaged} VDD_SOC 7mW/7mW")
    assert line.rails_mw == {"VDD_SOC": 7} and "VDD_IN" in line.unread


def test_a_rail_that_stands_twice_is_listed():
    assert read("RAM 1/2MB VDD_IN 5mW/5mW NC 0mW/0mW NC 0mW/0mW VDD_IN 7mW/7mW").twice == ["NC", "VDD_IN"]


def test_a_rail_that_was_cut_counts_when_its_current_number_is_whole():
    for cut, rails in (("5120mW/41", {"VDD_IN": 5120}), ("5120mW", {"VDD_IN": 5120}), ("5120m", {}), ("512", {})):
        assert read(f"RAM 1/2MB VDD_IN {cut}").rails_mw == rails
    assert read("RAM 1/2MB POM_5V_IN 920/9").rails_mw == {"POM_5V_IN": 920}
    assert read("RAM 1/2MB POM_5V_IN 920").rails_mw == {}
    assert read("SWAP 1/2MB RAM 1282/627").rails_mw == {}


@pytest.mark.parametrize("text", LINES)
def test_a_line_that_is_cut_anywhere_says_nothing_else(text):
    whole = read(text)
    for end in range(len(text)):
        line = parse_line(text[:end])
        if line is None:
            continue
        assert line.rails_mw.items() <= whole.rails_mw.items()
        assert line.temps_c.items() <= whole.temps_c.items()
        assert line.gpu_load in (None, whole.gpu_load)
        parse_line(text[end:])


def is_sane(line: Line | None) -> bool:
    if line is None:
        return True
    uses = [use for use in (*line.cpus, *line.engines.values(), line.emc) if use is not None]
    numbers = [*line.rails_mw.values(), *line.temps_c.values(), line.gpu_load, line.gpu_mhz, *(line.ram_mb or ())]
    numbers += [number for use in uses for number in (use.load, use.mhz)]
    return all(number is None or math.isfinite(number) for number in numbers)


@given(st.text())
def test_no_text_raises(text):
    assert is_sane(parse_line(text))


@given(
    st.lists(st.sampled_from([*" @%/,[]()-.0129mWCk", "VDD_IN", "RAM", "CPU", "off", "GR3D_FREQ", "MB"]), max_size=60)
)
def test_no_heap_of_pieces_raises(pieces):
    assert is_sane(parse_line("".join(pieces)))


@given(st.sampled_from(LINES), st.data())
def test_no_broken_line_raises(text, data):
    place = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 20))
    assert is_sane(parse_line(text[:place] + data.draw(st.text(max_size=8)) + text[place + gone :]))


def test_a_long_line_is_read_in_time():
    for flood in (
        "A " * 30_000,
        "CPU [" * 10_000,
        "9" * 60_000,
        "VDD_IN " + " " * 60_000 + "x",
        "RAM 1/2MB (lfb " * 5000,
    ):
        parse_line(flood)


@pytest.mark.parametrize("text", LINES)
def test_a_whole_line_is_read_as_a_simpler_reading_does(text):
    line = read(text)
    # What matters, by patterns without the grammar.
    rails: dict[str, float] = {}
    for name, mw in re.findall(r"(\w+) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+mW)?(?= |$)", text):
        rails.setdefault(name, float(mw))
    temps = {name: float(c) for name, c in re.findall(r"(\w+)@([\d.]+)C", text) if name != "PMIC"}
    assert line.rails_mw == rails
    assert line.temps_c == temps
    gpu = re.search(r"GR3D(?:_FREQ)? (?:(\d+)%)?(?:@\[?([\d,]+))?", text)
    load = float(gpu[1]) if gpu and gpu[1] else None
    mhz = max(map(float, gpu[2].split(","))) if gpu and gpu[2] else None
    assert (line.gpu_load, line.gpu_mhz) == (load, mhz)
    cores = re.search(r"(?i)cpu \[(.*?)\]", text)
    assert cores
    assert len(line.cpus) == cores[1].count(",") + 1
    assert [core is None for core in line.cpus] == [word in ("off", "na") for word in cores[1].split(",")]


# Without what it reads otherwise or not at all: a core that is `na`, a name that is printed twice, RAM without lfb.
COMMON = [
    text.replace(",na,", ",off,").replace("NC 6mW", "NC 5mW") for text in LINES if "lfb" in text.partition("CPU")[0]
]


@pytest.mark.parametrize("text", COMMON)
def test_jetson_stats_reads_the_same(text):
    theirs = pytest.importorskip("jtop.core.tegra_parse")
    line = read(text)
    assert {name: rail["cur"] for name, rail in theirs.WATTS(text).items()} == line.rails_mw
    temps = {name: c for name, c in theirs.TEMPS(text).items() if name not in line.offline}
    assert temps == line.temps_c
    ram = theirs.RAM(text)
    assert line.ram_mb == (ram["use"], ram["tot"])
    values = theirs.VALS(theirs.DATE(text) + "\n")
    gpu = values.get("GR3D", {})
    assert line.gpu_load == gpu.get("val")
    if "frq" in gpu:
        assert line.gpu_mhz == gpu["frq"] / 1000
    for core, (_, their) in zip(line.cpus, sorted(theirs.CPUS(text).items()), strict=False):
        assert (core.load if core else None) == their.get("val")
