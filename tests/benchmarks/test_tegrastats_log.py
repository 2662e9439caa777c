"""A tegrastats log by federa-report: the time line, the energy, and what was not understood."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.report import main
from benchmarks.tegrastats_log import TegrastatsLog

TAIL = "RAM 2147/7620MB (lfb 2x4MB) CPU [0%@729,off] GR3D_FREQ 5%@[305] cpu@47.5C gpu@48.25C "
START = datetime(2026, 3, 1, 12, 0, 0)


def line(mw: float, second: float | None = None) -> str:
    """One line of an Orin Nano, with or without a date that is so many seconds after the start."""
    date = "" if second is None else (START + timedelta(seconds=second)).strftime("%m-%d-%Y %H:%M:%S ")
    return f"{date}{TAIL}VDD_IN {mw:.0f}mW/9999mW VDD_CPU_GPU_CV 400mW/9999mW VDD_SOC 900mW/9999mW"


def read(lines: list[str], interval_s: float | None = None) -> tuple[list[dict], dict, TegrastatsLog]:
    log = TegrastatsLog(io.BytesIO("\n".join(lines).encode() + b"\n"), interval_s)
    samples = list(log.samples())
    return samples, log.ending(), log


def times(samples: list[dict]) -> list[float]:
    return [sample["t_s"] for sample in samples]


def test_without_dates_the_interval_gives_the_time():
    samples, ending, _ = read([line(1000), line(3000), line(5000)])
    assert times(samples) == [0, 1, 2]
    assert ending == {
        "samples": 3, "skipped": 0, "energy_j": 6.0, "mean_mw": 3000.0, "peak_mw": 5000.0, "coverage": 1.0,
        "scope": "module", "time_from": "interval", "interval_s": 1.0, "interval_assumed": True,
        "remarks": ["no time was found in the log: 1000 ms from line to line are assumed; --interval says otherwise"],
    }  # fmt: skip
    samples, ending, _ = read([line(1000), line(3000), line(5000)], interval_s=0.25)
    assert times(samples) == [0, 0.25, 0.5] and ending["energy_j"] == 1.5


def test_lines_of_one_date_are_spread_over_its_second():
    lines = [line(4000, second) for second in (0, 0, 1, 1, 2, 2, 3, 3)]
    samples, ending, log = read(lines)
    assert times(samples) == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert log.interval_s == 0.5 and ending["coverage"] == 1.0 and ending["energy_j"] == pytest.approx(14)


def test_dates_of_a_slow_log_are_no_gaps_and_a_missing_piece_is():
    seconds = [0, 10, 20, 30, 100, 110]
    samples, ending, log = read([line(2000, second) for second in seconds])
    assert times(samples) == seconds and log.gaps == 1
    assert ending["energy_j"] == pytest.approx(80) and ending["coverage"] == pytest.approx(40 / 110)
    assert read([line(2000, second) for second in seconds], interval_s=1.0)[1]["energy_j"] is None


@pytest.mark.parametrize(("jump", "third"), [(-3600, 2.0), (3600, 3601.0)])
def test_over_a_clock_that_jumps_nothing_is_integrated(jump: int, third: float):
    seconds = [0, 1, 1 + jump, 2 + jump, 3 + jump, 4 + jump]
    if jump > 0:
        seconds = [0, 1, *(second + jump for second in (1, 2, 3, 4))]
    samples, ending, log = read([line(9000 if at < 2 and at >= 0 else 1000, at) for at in seconds])
    assert samples[2]["t_s"] == third
    assert [after - before for before, after in zip(times(samples)[2:], times(samples)[3:], strict=False)] == [1, 1, 1]
    assert ending["energy_j"] == pytest.approx(9 + 3)
    assert ending["coverage"] == pytest.approx(4 / times(samples)[-1])
    assert (log.jumps_back, log.gaps) == ((1, 0) if jump < 0 else (0, 1))


def test_what_is_no_sample_is_skipped_and_counted_but_empty_lines_are_not():
    lines = ["# a comment", "", line(1000), "   ", "WARNING: not invoking as root", line(1000), "\x00\x01 garbage"]
    samples, ending, _ = read(lines)
    assert [sample["line"] for sample in samples] == [3, 6] and ending["skipped"] == 3


def test_line_without_rails_is_a_sample_without_a_total():
    samples, ending, _ = read([line(1000), TAIL, line(1000)])
    assert samples[1]["total_mw"] is None and samples[1]["scope"] is None and samples[1]["rails_mw"] == {}
    assert ending["samples"] == 3 and ending["energy_j"] == 2.0, "two intervals are no gap"
    _, ending, _ = read([TAIL, TAIL])
    assert ending.items() >= {
        "samples": 2, "skipped": 0, "energy_j": None, "mean_mw": None, "peak_mw": None, "coverage": None,
    }.items()  # fmt: skip


def test_single_sample_has_a_mean_and_no_energy():
    _, ending, _ = read([line(1234)])
    assert ending["mean_mw"] == ending["peak_mw"] == 1234 and ending["energy_j"] is ending["coverage"] is None
    assert read([])[1]["samples"] == 0


def test_samples_too_far_apart_have_a_mean_and_no_energy():
    _, ending, _ = read([line(1000, 200), line(3000, 0)])
    assert ending["mean_mw"] == 2000 and ending["energy_j"] is ending["coverage"] is None


def test_a_short_log_of_long_steps_is_no_gap():
    assert read([line(1000, second) for second in (0, 5, 10)])[1]["energy_j"] == pytest.approx(10)
    assert read([line(1000, second) for second in (0, 10, 11)])[1]["energy_j"] == pytest.approx(1)


def test_a_fast_log_that_ends_in_the_middle_of_a_second_has_no_more_energy_than_that():
    lines = [line(1000, (at + 5) // 10) for at in range(23)]
    for interval_s in (None, 0.1):
        assert read(lines, interval_s)[1]["energy_j"] == pytest.approx(2.2)


def test_totals_of_another_scope_are_not_added():
    whole = "VDD_GPU 1000mW/1mW VDD_CPU_SOC_MSS 2000mW/1mW VIN_SYS_5V0 3000mW/1mW VIN 10000mW/1mW"
    cut = whole.partition(" VIN 1")[0]
    samples, ending, log = read([f"{TAIL}{rails}" for rails in (whole, whole, cut, whole, whole)])
    assert [sample["scope"] for sample in samples] == ["board", "board", "module", "board", "board"]
    assert log.scope == "board" and log.other_scopes == {"module": 1}
    assert ending["energy_j"] == pytest.approx(40) and ending["peak_mw"] == 10000


@pytest.mark.parametrize("shape", ["ramp", "square", "burst"])
def test_energy_of_known_shapes_is_within_one_percent(shape: str):
    power = {
        "ramp": lambda t: 1000 + 2 * t,
        "square": lambda t: 8000 if (t // 500) % 2 else 2000,
        "burst": lambda t: 2000 + (12000 if 1000 <= t < 1100 else 0),
    }[shape]
    lines = [line(power(at), None if shape == "ramp" else at) for at in range(3000)]
    exact = {"ramp": 1.0 * 2999 + 2999**2 / 1000, "square": 15000.0 - 8, "burst": 2999 * 2 + 1200.0}[shape]
    assert read(lines)[1]["energy_j"] == pytest.approx(exact, rel=0.01)


def test_memory_does_not_grow_with_the_log():
    class Endless(io.RawIOBase):
        left = 4_000

        def readline(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"" if self.left < 0 else line(1000 + self.left % 7).encode() + f" word{self.left}\n".encode()

    tracemalloc.start()
    log = TegrastatsLog(Endless())
    count = sum(1 for _ in log.samples())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4_000 and peak < 2 << 20
    assert math.isclose(log.ending()["coverage"], 1.0) and len(log.unknown) <= 501


def test_bytes_of_any_kind_and_a_line_without_end_never_raise():
    blob = bytes(range(256)) * 2000 + b"\n" + b"x" * 300_000 + b"\n" + line(1000).encode()
    log = TegrastatsLog(io.BytesIO(blob))
    assert [sample["total_mw"] for sample in log.samples()] == [1000.0]


def test_command_prints_the_promised_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "log.txt"
    file.write_text("\n".join([line(1000), "no line", line(2000)]))
    assert main(["--tegrastats", str(file), "--interval", "500", "--json"]) == 0
    first, second, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "line": 1, "t_s": 0.0, "rails_mw": {"VDD_IN": 1000.0, "VDD_CPU_GPU_CV": 400.0, "VDD_SOC": 900.0},
        "total_mw": 1000.0, "scope": "module", "gpu_load": 5.0, "gpu_mhz": 305.0,
        "temps_c": {"cpu": 47.5, "gpu": 48.25},
    }  # fmt: skip
    assert second["t_s"] == 0.5
    assert last["skipped"] == 1 and last["energy_j"] == 0.75


def test_command_says_in_words_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "log.txt"
    file.write_text("\n".join([line(1000) + " NVXYZ", "no line", line(2000)]))
    assert main(["--tegrastats", str(file)]) == 0
    words = capsys.readouterr().out
    assert "energy: 1.5 J, module; mean 1.5 W, peak 2 W; 100 % covered" in words
    assert "NVXYZ (1 x)" in words and "lines that were not understood: 1" in words
    file.write_text(TAIL)
    assert main(["--tegrastats", str(file)]) == 0
    assert "no power in this log: tegrastats shows rails only to root on this release" in capsys.readouterr().out


AGX_RAILS = "VDD_GPU_SOC {}mW/{}mW VDD_CPU_CV {}mW/{}mW VIN_SYS_5V0 {}mW/{}mW"


def test_rails_below_zero_are_in_total_and_energy():
    idle = [AGX_RAILS.format(1592, 1592, -398, -398, 2624, 2624), AGX_RAILS.format(1592, -1, 398, -132, 2624, -9)]
    samples, ending, _ = read([f"{TAIL}{rails}" for rails in (*idle, idle[0])])
    assert [sample["total_mw"] for sample in samples] == [3818, 4614, 3818]
    assert ending["energy_j"] == pytest.approx(2 * (3.818 + 4.614) / 2)
    samples, ending, _ = read([TAIL + AGX_RAILS.format(-398, 0, -398, 0, 0, 0)] * 3)
    assert (ending["energy_j"], ending["mean_mw"], ending["peak_mw"]) == (pytest.approx(-1.592), -796, -796)


@pytest.mark.parametrize(
    ("lines", "options", "words", "assumed"),
    [
        ([line(1000)] * 3, [], "the interval of 1000 ms is assumed", True),
        ([line(1000)] * 3, ["--interval", "1000"], "", False),
        ([line(1000, second) for second in range(3)], [], "", False),
        ([f"2026-03-01T12:00:0{second}.5Z {line(1000)}" for second in range(3)], [], "", False),
        ([f"00:00:01 {line(1000)}"] * 3, [], "the interval of 1000 ms is assumed", True),
    ],
    ids=["undated", "told", "dated", "stamped", "ts -i"],
)
def test_an_interval_that_is_assumed_stands_beside_the_energy(
    lines: list[str], options: list[str], words: str, assumed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "log.txt"
    file.write_text("\n".join(lines))
    assert main(["--tegrastats", str(file), *options]) == 0
    (energy,) = (text for text in capsys.readouterr().out.splitlines() if text.startswith("energy: 2 J, module"))
    assert energy.endswith(words) and ("assumed" in energy) is assumed
    assert main(["--tegrastats", str(file), *options, "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["interval_assumed"] is assumed and last["interval_s"] == 1.0


def test_lines_of_several_boards_have_a_word_and_no_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "log.txt"
    file.write_text("\n".join(f"tegra-{n}  | {line(5000, second)}" for second in range(9) for n in (1, 2)))
    assert main(["--tegrastats", str(file)]) == 0
    words = capsys.readouterr().out
    assert "no energy: lines of several sources are mixed: 'tegra-1' (9 lines), 'tegra-2' (9 lines)" in words
    assert "total, module" not in words
    assert main(["--tegrastats", str(file), "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["energy_j"], last["mean_mw"], last["scope"]) == (None, None, None) and "tegra-2" in last["remarks"][0]


def test_escape_sequences_reach_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "log.txt"
    junk = "\x1b]0;HACKED\x07 \x1b[2Jx \x1bc \x9b31m \x07 \u202egnp"
    file.write_text(f"{line(1000)} {junk}\n\x1b[31mevil\x07-1 | {line(1000)}\n" * 30)
    for options in ([], ["--json"]):
        assert main(["--tegrastats", str(file), *options]) == 0
        printed = capsys.readouterr().out
        assert all(sign.isprintable() or sign == "\n" for sign in printed) and "VDD_IN" in printed


def test_what_has_no_line_end_at_all_is_refused(monkeypatch: pytest.MonkeyPatch):
    class Zeros(io.RawIOBase):
        def readline(self, size: int = -1) -> bytes:
            return b"\0" * size

    with pytest.raises(ValueError, match="have no line's end"):
        list(TegrastatsLog(Zeros()).samples())


@pytest.mark.parametrize("content", [b"", b"{}\n", bytes(range(256)) * 50])
def test_a_file_of_something_else_says_so_and_keeps_the_last_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "log.txt"
    file.write_bytes(content)
    assert main(["--tegrastats", str(file), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["samples"] == 0 and "no line of it is tegrastats'" in printed.err
    assert main(["--tegrastats", str(file)]) == 0
    assert "no line of it is tegrastats'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tegrastats", "missing.txt"], "missing.txt: No such file"),
        (["--tegrastats", "."], "is a folder"),
        (["--tegrastats", ""], "--tegrastats: names no file"),
        (["--tegrastats", "a\0b"], "--tegrastats: cannot read a"),
        (["--tegrastats", "log", "--interval", "0"], "--interval: must be a number of milliseconds above 0"),
        (["--tegrastats", "log", "--interval", "nan"], "--interval"),
        (["--tegrastats", "log", "folder"], "not both"),
        (["--json", "folder"], "--json: goes with --tegrastats"),
    ],
)
def test_bad_use_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1


def test_standard_input_that_is_closed_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", None)
    assert main(["--tegrastats", "-"]) == 2
    assert capsys.readouterr().err == "federa-report: --tegrastats: standard input is closed\n"


NANO = (
    "RAM {mb}/3964MB (lfb 366x4MB) SWAP 0/4096MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [10%@102,3%@102,0%@102,off] "
    "EMC_FREQ 0%@204 GR3D_FREQ {gpu}%@76 APE 25 PLL@24C CPU@27.5C PMIC@50C GPU@28C AO@29.5C thermal@28C "
    "POM_5V_IN {mw}/900 POM_5V_GPU 0/0 POM_5V_CPU 119/119"
)
AGX_ORIN = (
    "05-06-2025 10:11:{second:02} RAM 9000/62841MB (lfb 12x4MB) SWAP 10/31420MB (cached 1MB) CPU [61%@2188,off] "
    "EMC_FREQ 21%@3199 GR3D_FREQ 99%@[815,815] VIC off NVDLA0 off APE 174 cpu@58.2C tj@58.2C "
    "VDD_GPU_SOC {mw}mW/9000mW VDD_CPU_CV 2800mW/2000mW VIN_SYS_5V0 6100mW/5000mW"
)
THOR = (
    "04-21-2026 15:50:52 RAM 1000/125772MB (lfb 34x4MB) CPU [0%@972,8%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,414,314] "
    "cpu@37.3C VDD_GPU 1900mW/1mW VDD_CPU_SOC_MSS 5800mW/1mW VIN_SYS_5V0 5600mW/1mW VIN 19000mW/1mW"
)
TX1 = "RAM 3468/3983MB (lfb 48x4MB) SWAP 873/8192MB (cached 295MB) cpu [17%,13%]@408 EMC 1%@408 APE 25 GR3D {gpu}%@76"


@pytest.mark.parametrize(
    ("lines", "scope"),
    [
        ([NANO.format(mb=936 + n, gpu=n, mw=920 + 10 * n) for n in range(100)], "board"),
        ([AGX_ORIN.format(second=n, mw=14_000 + n) for n in range(15)], "module"),
        ([THOR], "board"),
        ([TX1.format(gpu=3), TX1.format(gpu=39)], None),
    ],
    ids=["nano", "agx orin", "thor", "tx1"],
)
def test_a_whole_log_of_each_release_is_read(lines: list[str], scope: str | None):
    samples, _, log = read(["# whose board it was, by hand", *lines])
    assert len(samples) == len(lines) and log.scope == scope and log.skipped == 1, "the first line is a comment"
