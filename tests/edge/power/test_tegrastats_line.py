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

from edge.power.tegrastats_line import Line, Use, parse_line

# Lines of our own writing, one a release, in the forms of the boards named.
ORIN_R36 = (
    "01-02-2026 03:04:05 RAM 3000/7620MB (lfb 63x4MB) SWAP 236/3810MB (cached 1MB) CPU [1%@729,off,na,4%@1510] "
    "EMC_FREQ 12%@204 GR3D_FREQ 39%@[305] NVENC off NVDEC 729 NVJPG1 off APE 200 cpu@44.125C soc2@43C cv0@-256C "
    "tj@44.531C VDD_IN 5120mW/4100mW VDD_CPU_GPU_CV 900mW/800mW VDD_SOC 1012mW/1000mW"
)
AGX_ORIN_R35 = (
    "01-02-2026 03:04:05 RAM 1000/62795MB (lfb 15152x4MB) CPU [0%@729,2%@730] EMC_FREQ 0%@2133 GR3D_FREQ 7%@[305,1300] "
    "GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 GPU@-256C tj@42.5C VDD_GPU_SOC 2400mW/1mW VDD_CPU_CV 400mW/1mW "
    "VIN_SYS_5V0 4000mW/1mW NC 5mW/1mW VDDQ_VDD2_1V8AO 300mW/1mW NC 6mW/1mW"
)
AGX_ORIN_R39 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1200] "
    "NVENC0 off PVA0_FREQ off cpu@50.5C/61.5C VDD_GPU_SOC 5100mW/4000mW/9000mW VDD_CPU_CV 3200mW/1mW/2mW "
    "VIN_SYS_5V0 5500mW/1mW/2mW"
)
THOR_R38 = (
    "04-21-2026 15:50:52 RAM 1000/125772MB (lfb 34x4MB) CPU [0%@972,8%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,414,314] "
    "NVENC0_FREQ @314 VIC off OFA_FREQ @315 cpu@37.343C VDD_GPU 1900mW/1mW VDD_CPU_SOC_MSS 5800mW/1mW "
    "VIN_SYS_5V0 5600mW/1mW VIN 19000mW/1mW"
)
XAVIER_R32 = (
    "RAM 1000/31919MB (lfb 4230x4MB) SWAP 0/15959MB (cached 0MB) CPU [17%@1190,18%@1574] EMC_FREQ 55%@2133 "
    "GR3D_FREQ 95%@1377 APE 150 MTS fg 3% bg 10% AO@48C GPU@54.5C PMIC@100C CPU@49C GPU 18401/18525 CPU 2301/2330 "
    "SOC 4602/4602 CV 0/0 VDDRQ 2914/2911 SYS5V 4632/4620"
)
NANO_R32 = (
    "RAM 936/3964MB (lfb 366x4MB) SWAP 0/4096MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [10%@102,3%@102] "
    "EMC_FREQ 0%@204 GR3D_FREQ 0%@76 APE 25 PLL@24C CPU@27.5C PMIC@50C POM_5V_IN 920/900 POM_5V_GPU 0/1 "
    "POM_5V_CPU 119/120"
)
TX2_R28 = (
    "RAM 284/7860MB (lfb 1808x4MB) CPU [48%@2034,off] EMC_FREQ 2%@1600 GR3D_FREQ @0 APE 150 PLL@29.5C PMIC@100C "
    "VDD_SYS_GPU 192/190 VDD_4V0_WIFI 38/38 VDD_IN 3566/3500"
)
TX1_R28 = "RAM 3468/3983MB (lfb 48x4kB) cpu [17%,13%]@408 EMC 1%@408 APE 25 GR3D 3%@76"
USER_R36 = "RAM 1/2MB CPU [1%@729] GR3D_FREQ 0% EMC_FREQ @2133 cpu@45.8C VDD_IN 4304mW/4304mW"
# The same boards with all that they print, and as they print it to a user who is not root: then no rails or no clocks.
AGX_ORIN_R36 = (
    "05-06-2025 10:11:12 RAM 9000/62841MB (lfb 12x4MB) SWAP 10/31420MB (cached 1MB) CPU [61%@2188,3%@1344,7%@729,"
    "off,off] EMC_FREQ 21%@3199 GR3D_FREQ 99%@[815,815] NVENC off NVDEC off NVJPG off NVJPG1 off VIC off OFA off "
    "NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@58.2C tboard@41C soc2@52.9C tdiode@43.75C soc0@53.3C gpu@55C "
    "tj@58.2C soc1@53.1C VDD_GPU_SOC 14800mW/9000mW VDD_CPU_CV 2800mW/2000mW VIN_SYS_5V0 6100mW/5000mW"
)
AGX_ORIN_R35_USER = (
    "01-02-2026 03:04:05 RAM 2000/30588MB (lfb 6x4MB) SWAP 0/15294MB (cached 0MB) CPU [4%@1113,0%@1113,off,off] "
    "EMC_FREQ 0% GR3D_FREQ 0% GR3D2_FREQ 0% CV0@-256C CPU@47.2C Tboard@37C SOC2@43.8C Tdiode@38.5C SOC0@44C "
    "CV1@-256C GPU@-256C tj@47.2C SOC1@45.1C CV2@-256C"
)
ORIN_NX_R36_USER = (
    "07-16-2026 13:03:45 RAM 1300/15656MB (lfb 8x4MB) SWAP 0/7828MB (cached 0MB) CPU [1%@729,0%@729,2%@1510] "
    "GR3D_FREQ 0% cv0@41.1C cpu@45.8C soc2@39.6C cv1@42.2C gpu@43.4C tj@45.8C VDD_IN 4310mW/4320mW "
    "VDD_CPU_GPU_CV 570mW/580mW VDD_SOC 1210mW/1220mW"
)
THOR_R38_USER = (
    "01-20-2026 22:46:22 RAM 17000/125772MB (lfb 79x4MB) CPU [0%@972,1%@1566] cpu@30.5C tj@31.2C soc012@30.2C "
    "soc345@31.2C VDD_GPU 0mW/0mW VDD_CPU_SOC_MSS 5500mW/5510mW VIN_SYS_5V0 5000mW/5010mW VIN 16800mW/16810mW"
)
NANO_R32_USER = (
    "RAM 1700/3956MB (lfb 12x4MB) SWAP 440/1978MB (cached 9MB) CPU [28%@921,19%@921,off,off] EMC_FREQ 0% "
    "GR3D_FREQ 0% PLL@41C CPU@42.5C PMIC@50C GPU@40.5C AO@50C thermal@41.75C"
)
XAVIER_R32_WHOLE = (
    "RAM 2000/31919MB (lfb 4230x4MB) SWAP 0/15959MB (cached 0MB) CPU [17%@1190,18%@1190,99%@2265,1%@1190] "
    "EMC_FREQ 55%@2133 GR3D_FREQ 95%@1377 APE 150 MTS fg 3% bg 3% AO@48C GPU@54.5C Tboard@46C Tdiode@51.25C "
    "AUX@47.5C CPU@49C thermal@50.1C PMIC@100C GPU 18400/18500 CPU 2300/2330 SOC 4600/4610 CV 0/0 VDDRQ 2900/2910 "
    "SYS5V 4630/4620"
)
TX2_R28_WHOLE = (
    "RAM 290/7860MB (lfb 1808x4MB) CPU [45%@2033,off,off,39%@2030,43%@2030,42%@2033] EMC_FREQ 2%@1600 GR3D_FREQ @0 "
    "APE 150 PLL@29.5C MCPU@29.5C PMIC@100C Tboard@26C GPU@27.5C BCPU@29.5C thermal@28.7C Tdiode@25C "
    "VDD_SYS_GPU 192/190 VDD_SYS_SOC 529/530 VDD_4V0_WIFI 38/38 VDD_IN 3400/3500 "
    "VDD_SYS_CPU 1060/1100 VDD_SYS_DDR 880/890"
)
LINES = (
    ORIN_R36, AGX_ORIN_R35, AGX_ORIN_R39, THOR_R38, XAVIER_R32, NANO_R32, TX2_R28, TX1_R28, USER_R36, AGX_ORIN_R36,
    AGX_ORIN_R35_USER, ORIN_NX_R36_USER, THOR_R38_USER, NANO_R32_USER, XAVIER_R32_WHOLE, TX2_R28_WHOLE,
)  # fmt: skip


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
