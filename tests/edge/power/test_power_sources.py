"""Sources that speak by themselves or count: a tegrastats child, a replayed log, RAPL, NVML, jtop; and which is taken.

What is called fake stands for a program or a device that a test machine does not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from itertools import pairwise
from pathlib import Path

import pytest
from fake_jtop import fake_power, install_fake_jtop
from sysfs_trees import FAKE_ORIN_NANO, fake_hwmon, fake_model, fake_packages

from edge.power import choice, tegrastats
from edge.power.choice import check_spec, open_power
from edge.power.jtop import Jtop
from edge.power.nvml import Nvml
from edge.power.rapl import Rapl
from edge.power.replay import Replay
from edge.power.tegrastats import Tegrastats
from federa.errors import BadInput

LINE = "RAM 1/2MB CPU [1%@729] GR3D_FREQ 5%@305 cpu@44C VDD_IN {mw}mW/1mW VDD_CPU_GPU_CV 9mW/9mW VDD_SOC 9mW/9mW"


def eventually(found, seconds=60.0):
    until_s = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until_s, "did not happen in time"
        time.sleep(0.01)
    return value


class Clock:
    """Time that only the test moves."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


# ---- tegrastats ----


def fake_tegrastats(folder, body, python=False):
    """A program that prints what the test wants. `$LINE` is a line of 4000 mW."""
    path = folder / "tegrastats"
    if python:
        path.write_text(f"#!{sys.executable} -IS\nimport os, sys, time\nLINE = {LINE.format(mw=4000)!r}\n{body}\n")
    else:
        path.write_text(f"#!/bin/sh\nLINE='{LINE.format(mw=4000)}'\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def run(tmp_path):
    started = []

    def runner(body, *, python=False, board="Orin Nano", interval_s=0.1, first_pause_s=0.05):
        path = fake_tegrastats(tmp_path, body, python)
        started.append(Tegrastats(path, board=board, interval_s=interval_s, first_pause_s=first_pause_s))
        return started[-1]

    yield runner
    for source in started:
        source.close()
        assert source.pid is None


def test_a_childs_lines_are_readings(run):
    source = run('echo "$LINE"; echo "$LINE"; echo "interval $*" >&2; sleep 9')
    found = []
    before_s = time.monotonic()
    eventually(lambda: found.extend(source.readings()) or len(found) >= 2)
    first, second = found
    assert (second.total_mw, second.gpu_load, second.temps_c) == (4000, 5, {"cpu": 44})
    assert before_s - 0.1 <= first.at_s <= second.at_s <= time.monotonic()
    assert (source.name, source.scope) == ("tegrastats", "module")
    eventually(lambda: source.skipped == 1)
    assert source.readings() == []


def test_it_is_asked_for_its_interval_and_nothing_else(tmp_path, run):
    source = run(f'echo "$*" > {tmp_path}/asked; echo "$LINE"; sleep 9', interval_s=0.25)
    eventually(source.readings)
    assert (tmp_path / "asked").read_text() == "--interval 250\n"
    # It takes no less than 100 ms.
    assert run("exit 1", interval_s=0.001).interval_s == 0.1


def test_the_last_line_is_held_back_until_it_is_whole(tmp_path, run):
    source = run(
        f"sys.stdout.write(LINE[:-30]); sys.stdout.flush()\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(.01)\n"
        "print(LINE[-30:], flush=True); time.sleep(9)",
        python=True,
        interval_s=1,
    )
    eventually(lambda: source.pid)
    time.sleep(0.2)
    assert source.readings() == []
    (tmp_path / "go").touch()
    (reading,) = eventually(source.readings)
    assert reading.total_mw == 4000
    assert source.skipped == 0


def test_one_that_dies_is_started_again_and_says_so(run):
    source = run('echo "$LINE"; exit 3')
    readings = []
    eventually(lambda: readings.extend(source.readings()) or source.restarts >= 3)
    assert len(readings) >= 3
    assert "ended (exit code 3)" in str(eventually(source.problem))


def test_the_pauses_between_restarts_grow(run):
    source = run("exit 1", first_pause_s=0.05)
    pauses = []
    eventually(lambda: pauses.append(source.problem()) or source.restarts >= 3)
    pauses_s = [float(line.split(" s (restart")[0].rsplit(" ", 1)[1]) for line in dict.fromkeys(filter(None, pauses))]
    assert pauses_s == sorted(pauses_s)
    assert pauses_s[:3] == [0.05, 0.1, 0.2]


def test_one_that_cannot_be_run_says_why(tmp_path):
    source = Tegrastats(str(tmp_path / "gone"), board=None, interval_s=0.1, first_pause_s=9)
    try:
        assert "No such file" in eventually(source.problem)
        assert source.readings() == []
    finally:
        source.close()


def test_one_that_hangs_is_ended_and_started_again(tmp_path, run, monkeypatch):
    monkeypatch.setattr(tegrastats, "_START_S", 0.3)
    monkeypatch.setattr(tegrastats, "_MIN_SILENCE_S", 0.0)
    source = run(f'echo $$ >> {tmp_path}/pids; echo "$LINE"; exec sleep 60')
    eventually(lambda: source.restarts >= 1)
    assert "said nothing that is understood for 0.5 s" in source.problem()
    first = int((tmp_path / "pids").read_text().split()[0])
    eventually(lambda: not os.path.exists(f"/proc/{first}"))
    eventually(lambda: source.problem() is None)
    assert len(source.readings()) >= 1


def test_one_that_has_to_wait_on_a_busy_board_is_left_alone(run, monkeypatch):
    monkeypatch.setattr(tegrastats, "_START_S", 0.0)
    source = run('while true; do echo "$LINE"; sleep 0.6; done')
    found = []
    eventually(lambda: found.extend(source.readings()) or len(found) == 2)
    assert (source.restarts, source.problem()) == (0, None)


def test_one_that_floods_is_ended_and_takes_no_memory(run, monkeypatch):
    # Less than any machine writes in a second, also a busy one.
    monkeypatch.setattr(tegrastats, "_FLOOD_BYTES_PER_S", 1 << 14)
    source = run("while True: os.write(1, (LINE + '\\n').encode() * 1000)", python=True, first_pause_s=9)
    eventually(lambda: source.restarts == 1)
    assert "floods" in source.problem()
    assert len(source.readings()) <= 4096


def test_a_line_without_end_is_dropped_and_counted(run):
    source = run(
        "os.write(1, b'x' * 100_000); os.write(1, b'y' * 100_000 + b'\\n'); print(LINE, flush=True); time.sleep(9)",
        python=True,
    )
    (reading,) = eventually(source.readings)
    assert reading.total_mw == 4000
    assert source.dropped == 1


def test_readings_that_nobody_fetches_are_bounded(run, monkeypatch):
    monkeypatch.setattr(tegrastats, "_QUEUE", 50)
    source = run("for i in range(400): print(LINE)\nsys.stdout.flush(); time.sleep(9)", python=True)
    eventually(lambda: source.dropped == 350)
    assert len(source.readings()) == 50


def test_lines_that_waited_in_the_pipe_keep_their_order_and_distance(run):
    source = run("os.write(1, (LINE + '\\n').encode() * 5); time.sleep(9)", python=True)
    time.sleep(0.6)
    found = []
    eventually(lambda: found.extend(source.readings()) or len(found) == 5)
    steps = [later.at_s - earlier.at_s for earlier, later in pairwise(found)]
    assert all(0 < step <= 0.1001 for step in steps)


def test_a_cut_line_of_a_narrower_scope_gives_no_total(run):
    rails = "RAM 1/2MB VDD_GPU 1mW/1mW VDD_CPU_SOC_MSS 2mW/2mW VIN_SYS_5V0 3mW/3mW"
    source = run(f'echo "{rails} VIN 9mW/9mW"; echo "{rails} VI"; sleep 9', board="AGX Thor")
    found = []
    eventually(lambda: found.extend(source.readings()) or len(found) == 2)
    assert [reading.total_mw for reading in found] == [9, None]
    assert source.scope == "board"


def test_a_first_line_that_was_cut_takes_no_total_from_the_others(run):
    rails = "RAM 1/2MB VDD_GPU 1mW/1mW VDD_CPU_SOC_MSS 2mW/2mW VIN_SYS_5V0 3mW/3mW"
    source = run(f'echo "{rails} VI"; echo "{rails} VIN 9mW/9mW"; sleep 9', board="AGX Thor")
    found = []
    eventually(lambda: found.extend(source.readings()) or len(found) == 2)
    assert ([reading.total_mw for reading in found], source.scope) == ([None, 9], "board")


def test_closing_ends_the_child_by_its_pid_also_while_it_is_busy(tmp_path, run):
    source = run('trap "" TERM INT; while true; do echo "$LINE"; sleep 0.05; done')
    eventually(source.readings)
    pid = source.pid
    source.close()
    assert not os.path.exists(f"/proc/{pid}")
    source.close()


def test_the_child_ends_with_a_process_that_is_killed(tmp_path):
    path = fake_tegrastats(tmp_path, f'echo $$ > {tmp_path}/pid; while true; do echo "$LINE"; sleep 0.1; done')
    code = (
        "import time; from edge.power.tegrastats import Tegrastats\n"
        f"Tegrastats({path!r}, board=None, interval_s=0.1); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 20))
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    eventually(lambda: _ended(pid))


def _ended(pid):
    try:
        # A zombie that nobody has waited for yet is ended too.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# ---- replay ----


def log(folder, lines, name="a.log"):
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_log_without_dates_is_a_line_a_second_in_a_loop(tmp_path):
    clock = Clock()
    source = Replay(log(tmp_path, ["# heading", *(LINE.format(mw=mw) for mw in (1000, 2000, 3000))]), clock=clock)
    assert (source.name, source.scope) == ("replay of a.log", "module")
    seen = []
    for _ in range(8):
        seen += [(reading.at_s, reading.total_mw) for reading in source.readings()]
        clock.now_s += 0.5
    assert seen == [(1000, 1000), (1001, 2000), (1002, 3000), (1003, 1000)]
    clock.now_s += 3600
    # Line 1004 to line 4604, both due.
    assert len(source.readings()) == 3601
    assert source.readings() == []


def test_a_replays_clock_is_the_logs(tmp_path):
    clock = Clock()
    dates = ["01-02-2026 03:04:05", "01-02-2026 03:04:06", "01-02-2031 00:00:00", "01-02-2031 00:00:03"]
    source = Replay(log(tmp_path, [f"{date} {LINE.format(mw=1)}" for date in dates]), clock=clock)
    clock.now_s += 5
    assert [reading.at_s - 1000 for reading in source.readings()] == [0, 1, 2, 5], "a clock that was set is no pause"
    assert source.detail == "a.log: 4 lines, 6 s, in a loop"


def test_a_first_line_that_was_cut_does_not_decide_a_replays_scope(tmp_path):
    rails = "RAM 1/2MB VDD_GPU 1000mW/1mW VDD_CPU_SOC_MSS 2000mW/1mW VIN_SYS_5V0 3000mW/1mW"
    clock = Clock()
    source = Replay(log(tmp_path, [rails, *[f"{rails} VIN 9000mW/1mW"] * 2]), clock=clock)
    clock.now_s += 2
    assert source.scope == "board"
    assert [reading.total_mw for reading in source.readings()] == [None, 9000, 9000]


def test_a_replay_says_that_its_interval_is_assumed(tmp_path):
    assert Replay(log(tmp_path, [LINE.format(mw=1)] * 3)).detail == (
        "a.log: 3 lines, 3 s, in a loop, interval assumed (1000 ms)"
    )
    stamped = [f"17622208{second}0 {LINE.format(mw=1)}" for second in (1, 2, 3)]
    assert Replay(log(tmp_path, stamped)).detail == "a.log: 3 lines, 30 s, in a loop"


def test_a_replay_of_several_boards_is_refused(tmp_path):
    lines = [f"orin-{number} | {LINE.format(mw=1)}" for _ in range(5) for number in (1, 2)]
    with pytest.raises(BadInput, match=r"'orin-1' \(5 lines\), 'orin-2' \(5 lines\); a replay is of one device"):
        Replay(log(tmp_path, lines))


def test_a_log_whose_lines_lost_the_input_rail_is_no_replay_of_the_module(tmp_path):
    rails = "RAM 1/2MB VDD_GPU 1mW/1mW VDD_CPU_SOC_MSS 2mW/2mW VIN_SYS_5V0 3mW/3mW"
    with pytest.raises(BadInput, match="with a total power: no total: could not be read"):
        Replay(log(tmp_path, [f"{rails} VI", rails, rails]))


def test_a_childs_rails_may_be_below_zero(run):
    rails = "VDD_GPU_SOC 1592mW/1592mW VDD_CPU_CV -398mW/-398mW VIN_SYS_5V0 2624mW/-1mW"
    source = run(f'while true; do echo "RAM 1/2MB {rails}"; sleep 0.05; done', board="AGX Orin")
    found = []
    eventually(lambda: found.extend(source.readings()) or found)
    assert (found[0].total_mw, found[0].rails_mw["VDD_CPU_CV"], source.scope) == (3818, -398, "module")


def test_a_log_without_power_is_refused(tmp_path):
    for lines in ([], ["garbage"], ["RAM 1/2MB CPU [1%@2] cpu@40C"], ["RAM 1/2MB VDD_A 1mW/1mW"]):
        with pytest.raises(BadInput, match=r"--power: replay:.*a\.log holds no line of tegrastats with a total power"):
            Replay(log(tmp_path, lines))
    with pytest.raises(BadInput, match=r"for the board 'AGX Orin'"):
        Replay(log(tmp_path, [LINE.format(mw=1)]), board="AGX Orin")
    (tmp_path / "a.log").write_bytes(b"\xff\xfe\0" * 100)
    with pytest.raises(BadInput, match="holds no line"):
        Replay(tmp_path / "a.log")


def test_lines_that_are_not_understood_are_left_out_of_a_replay(tmp_path):
    clock = Clock()
    source = Replay(log(tmp_path, [LINE.format(mw=1), "garbage", "RAM 1/2MB", LINE.format(mw=4)]), clock=clock)
    clock.now_s += 2
    assert [(r.at_s - 1000, r.total_mw) for r in source.readings()] == [(0, 1), (1, None), (2, 4)]


# ---- RAPL ----


def test_rapl_is_the_sum_of_packages_and_their_counters_may_begin_again(tmp_path):
    first, second = fake_packages(tmp_path, [5_000_000, 262143328850 - 1_000_000])
    clock = Clock()
    source = Rapl(tmp_path, clock)
    clock.now_s += 0.5
    first.write_text("10000000\n")
    second.write_text("500000\n")
    (reading,) = source.readings()
    assert reading.rails_mw == {"package-0": 10000, "package-1": 3000}
    assert (reading.total_mw, reading.at_s, source.scope) == (13000, 1000.5, "package")
    assert (reading.counted.since_s, reading.counted.until_s, reading.counted.joules) == (1000.0, 1000.5, 6.5)
    assert source.readings() == []
    first.unlink()
    clock.now_s += 0.5
    assert source.readings() == []
    assert source.problem()


def test_rapl_counts_on_from_the_last_reading_that_there_was(tmp_path):
    (counter,) = fake_packages(tmp_path, [1_000_000])
    clock = Clock()
    source = Rapl(tmp_path, clock)
    clock.now_s += 0.1
    counter.write_text("")
    assert source.readings() == []
    clock.now_s += 20.0
    counter.write_text("201000000")
    (reading,) = source.readings()
    assert (reading.counted.since_s, reading.counted.joules) == (1000.0, 200.0)
    assert source.problem() is None


def test_rapl_whose_counter_was_set_back_or_may_have_gone_round_twice_measured_nothing(tmp_path):
    (counter,) = fake_packages(tmp_path, [200_000_000_000], range_uj=262143328850)
    clock = Clock()
    source = Rapl(tmp_path, clock)
    clock.now_s += 0.1
    counter.write_text("5000")  # 62 kJ in a tenth of a second: the machine was suspended
    assert source.readings() == []
    assert "package-0 was set back" in source.problem()
    clock.now_s += 0.1
    counter.write_text("1005000")
    (reading,) = source.readings()
    assert (reading.counted.since_s, reading.counted.joules) == (pytest.approx(1000.1), 1.0)
    clock.now_s += 300.0  # at 1 kW it goes round in 262 s
    counter.write_text("2005000")
    assert source.readings() == []
    assert "not read for too long (300 s)" in source.problem()
    clock.now_s += 0.1
    assert source.readings()
    assert source.problem() is None


def test_rapl_that_is_missing_or_kept_from_us_says_so(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="no package counters under"):
        Rapl(tmp_path)
    fake_packages(tmp_path, [1])
    read_text = Path.read_text

    def fake_read_text(path, *arguments, **options):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", fake_read_text)
    with pytest.raises(OSError, match="by root only"):
        Rapl(tmp_path)


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
def test_rapl_whose_counter_is_no_number_is_a_source_that_cannot_be_opened(tmp_path, file):
    (counter,) = fake_packages(tmp_path, [5])
    (counter.parent / file).write_text("")
    with pytest.raises(OSError, match="no number"):
        Rapl(tmp_path)


# ---- NVML ----


def fake_pynvml(monkeypatch, *, power_mw, load=55):
    """A driver whose GPU answers this; None: NotSupported, as on a Jetson. `total_mj` is the counter of energy, which
    GPUs before Volta do not have."""
    module = types.ModuleType("pynvml")

    class FakeNVMLError(Exception):
        pass

    def power(gpu):
        if power_mw is None:
            raise FakeNVMLError("Not Supported")
        return power_mw

    def no(*_):
        raise FakeNVMLError("Not Supported")

    def total_mj(gpu):
        return no() if module.total_mj is None else module.total_mj

    module.NVMLError = FakeNVMLError
    module.total_mj = None
    module.nvmlDeviceGetTotalEnergyConsumption = total_mj
    module.closed = []
    names = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
    for i, name in enumerate(names):
        setattr(module, f"nvmlClocksThrottleReason{name}", 4 << i)
    module.NVML_CLOCK_SM, module.NVML_TEMPERATURE_GPU = 1, 0
    module.nvmlInit = lambda: None
    module.nvmlShutdown = lambda: module.closed.append(True)
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetName = lambda gpu: "Fake GPU"
    module.nvmlDeviceGetPowerUsage = power
    module.nvmlDeviceGetUtilizationRates = lambda gpu: types.SimpleNamespace(gpu=load)
    module.nvmlDeviceGetClockInfo = lambda gpu, which: 1410
    module.nvmlDeviceGetTemperature = no
    module.nvmlDeviceGetCurrentClocksThrottleReasons = lambda gpu: 4
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_nvml_reads_what_the_gpu_tells(monkeypatch):
    module = fake_pynvml(monkeypatch, power_mw=61234)
    source = Nvml()
    (reading,) = source.readings()
    assert (reading.total_mw, reading.gpu_load, reading.gpu_mhz) == (61234, 55, 1410)
    assert (reading.temps_c, reading.throttled) == ({}, True)
    assert (source.scope, source.detail) == ("gpu", "NVML: Fake GPU")
    source.close()
    assert module.closed


def test_nvmls_energy_is_the_difference_of_its_counter(monkeypatch):
    module = fake_pynvml(monkeypatch, power_mw=61234)
    module.total_mj = 5_000_000
    clock = Clock()
    source = Nvml(clock)
    clock.now_s += 0.5
    module.total_mj += 31_000
    (reading,) = source.readings()
    assert (reading.total_mw, reading.counted.since_s, reading.counted.until_s) == (61234, 1000.0, 1000.5)
    assert reading.counted.joules == pytest.approx(31.0)
    module.total_mj = None
    clock.now_s += 0.5
    (reading,) = source.readings()
    assert (reading.total_mw, reading.counted) == (61234, None)
    assert source.problem() == "the counter of energy does not answer"
    module.total_mj = 5_081_000
    clock.now_s += 4.0
    (reading,) = source.readings()
    assert (reading.counted.since_s, reading.counted.joules) == (1000.5, pytest.approx(50.0))
    module.total_mj = 7  # the driver was loaded anew
    clock.now_s += 0.5
    assert source.readings()[0].counted is None
    module.total_mj = 1007
    clock.now_s += 0.5
    assert source.readings()[0].counted.joules == pytest.approx(1.0)


def test_nvml_without_a_counter_gives_power_alone(monkeypatch):
    fake_pynvml(monkeypatch, power_mw=61234)
    source = Nvml()
    (reading,) = source.readings()
    assert (reading.total_mw, reading.counted, source.problem()) == (61234, None, None)


def test_nvml_without_power_says_so(monkeypatch):
    module = fake_pynvml(monkeypatch, power_mw=None)
    with pytest.raises(OSError, match="GPU 0 tells no power: Not Supported"):
        Nvml()
    assert module.closed
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(OSError, match="nvidia-ml-py is not installed"):
        Nvml()


# ---- jtop ----


def test_jtops_rails_make_the_total_not_jtops_own_sum(monkeypatch):
    rails = {"VDD_GPU_SOC": 2400, "VDD_CPU_CV": 400, "VIN_SYS_5V0": 4000, "VDDQ_VDD2_1V8AO": 300}
    install_fake_jtop(monkeypatch, fake_power(rails))
    source = Jtop("AGX Orin", 0.5)
    (reading,) = source.readings()
    assert (reading.total_mw, reading.gpu_load, reading.gpu_mhz) == (6800, 12.5, 612)
    assert reading.temps_c == {"cpu": 44.5}
    assert source.readings() == []
    source._service.power = {"rail": {"X": {"power": "?"}}}
    source._service.beat()
    assert "not understood" in source.problem()
    source.close()
    assert "gone away" in source.problem()


@pytest.mark.parametrize("board", ["AGX Orin", "Orin NX", None])
def test_jtops_total_without_a_name_is_its_own_sum_and_none_of_ours(monkeypatch, board):
    install_fake_jtop(monkeypatch, fake_power({"VDD_CPU_GPU_CV": 900, "VDD_SOC": 1000, "usb-c": 15000}))
    (reading,) = Jtop(board, 0.5).readings()
    assert reading.total_mw is None
    install_fake_jtop(monkeypatch, fake_power({"VDD_IN": 5000, "VDD_SOC": 1000}, names_its_total=False))
    (reading,) = Jtop(board, 0.5).readings()
    assert (reading.total_mw, dict(reading.rails_mw)) == (None, {"VDD_SOC": 1000})


def test_a_label_that_stands_twice_on_the_board_is_no_total_of_jtops(monkeypatch):
    install_fake_jtop(monkeypatch, fake_power({"VDD_IN": 18000, "VDD_CPU_GPU_CV": 500, "VDD_SOC": 500}))
    source = Jtop("Orin NX", 0.5, frozenset({"VDD_IN"}))
    assert source.readings()[0].total_mw is None
    assert "VDD_IN stands there twice" in source.problem()


@pytest.mark.parametrize("power", [{}, {"rail": {}, "tot": {}}, {"rail": {"VDD_IN": {"power": None}}, "tot": {}}])
def test_a_jtop_without_sensors_tells_no_power(monkeypatch, power):
    install_fake_jtop(monkeypatch, power)
    source = Jtop("Orin NX", 0.5)
    assert [(reading.total_mw, dict(reading.rails_mw)) for reading in source.readings()] == [(None, {})]
    assert source.problem() is None


@pytest.mark.parametrize(
    "rails",
    [
        {"VDD_IN": 5000, "VDD_CPU_GPU_CV": 900, "VDD_SOC": 1000},
        {"POM_5V_IN": 920, "POM_5V_GPU": 0, "POM_5V_CPU": 119},
        {"VDD_GPU": 1900, "VDD_CPU_SOC_MSS": 5800, "VIN_SYS_5V0": 5600, "VIN": 19000},
        {"VDD_GPU_SOC": 2400, "VDD_CPU_CV": -398, "VIN_SYS_5V0": 4000, "VDDQ_VDD2_1V8AO": 300},
    ],
)
def test_the_fake_tells_power_as_jetson_stats_does(rails):
    total_power = pytest.importorskip("jtop.core.power").total_power
    whole, rest = total_power({name: {"power": mw, "avg": mw, "online": True} for name, mw in rails.items()})
    assert fake_power(rails) == {"rail": rest, "tot": whole}


def test_jtop_that_refuses_says_why_in_one_line(monkeypatch):
    install_fake_jtop(monkeypatch, problem="The jtop.service is not active. Please run:\nsudo jtop --install-service")
    with pytest.raises(OSError, match=r"^The jtop\.service is not active\. Please run: sudo jtop --install-service$"):
        Jtop(None, 0.5)
    monkeypatch.setitem(sys.modules, "jtop", None)
    with pytest.raises(OSError, match="jetson-stats is not installed"):
        Jtop(None, 0.5)


# ---- choice ----


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without any sensor, whatever this one has."""
    monkeypatch.setitem(sys.modules, "jtop", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(choice, "_START_S", 1.0)
    return tmp_path


def test_auto_without_a_sensor_says_what_was_looked_for(bare):
    found = open_power("auto", board=None, interval_s=0.1, root=bare)
    assert found.source is None
    for words in ("sysfs: no INA3221", "tegrastats: not found", "jtop: jetson-stats is not", "nvml: ", "rapl: no"):
        assert words in found.detail
    assert "\n" not in found.detail


def test_auto_takes_the_first_with_a_total_and_says_why_not_those_before(bare):
    fake_packages(bare, [1])
    found = open_power("auto", board=None, interval_s=0.01, root=bare)
    # RAPL's counters stand still: that is a total of 0 mW.
    assert (found.source.name, found.source.scope) == ("rapl", "package")
    assert "total of the package" in found.detail
    assert "not sysfs: no INA3221" in found.detail
    fake_model(bare, "NVIDIA Jetson Orin Nano Developer Kit")
    fake_hwmon(bare, "1-0040", FAKE_ORIN_NANO)
    found = open_power("auto", board=None, interval_s=0.1, root=bare)
    assert (found.source.name, found.source.scope) == ("sysfs", "module")
    assert "not " not in found.detail


def test_auto_takes_rails_without_a_total_when_there_is_nothing_better(bare):
    fake_hwmon(bare, "1-0040", FAKE_ORIN_NANO)
    found = open_power("auto", board=None, interval_s=0.01, root=bare)
    assert (found.source.name, found.source.scope) == ("sysfs", None)
    assert "rails, but no total: the board is unknown; --board names it" in found.detail
    assert "not rapl: no package counters" in found.detail
    fake_model(bare, "Acme Carrier")
    assert (
        "none is known for the board 'Acme Carrier'" in open_power("sysfs", board=None, interval_s=1, root=bare).detail
    )
    found = open_power("auto", board="orin-nano", interval_s=0.01, root=bare)
    assert found.source.scope == "module"


def test_auto_goes_on_to_a_source_with_a_total_and_closes_the_one_without(bare):
    fake_hwmon(bare, "1-0040", FAKE_ORIN_NANO)
    fake_packages(bare, [1])
    before = len(os.listdir("/proc/self/fd"))
    found = open_power("auto", board=None, interval_s=0.01, root=bare)
    assert found.source.name == "rapl"
    assert "not sysfs: rails, but no total" in found.detail
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_label_that_stands_twice_is_not_taken_from_a_source_that_does_not_say_which_it_read(bare, monkeypatch):
    fake_model(bare, "Jetson Orin NX on an Acme carrier")
    for chip in ("0-0041", "3-0040"):
        fake_hwmon(bare, chip, FAKE_ORIN_NANO)
    (bare / "usr/bin").mkdir(parents=True)
    fake_tegrastats(bare / "usr/bin", 'while true; do echo "$LINE"; sleep 0.1; done')
    install_fake_jtop(monkeypatch, fake_power({"VDD_IN": 18000, "VDD_CPU_GPU_CV": 500}))
    why = "rails, but no total: VDD_IN stands there twice, and which is the module's is not known"
    found = open_power("auto", board=None, interval_s=0.1, root=bare)
    assert (found.source.name, found.source.scope) == ("sysfs", None)
    assert f"; {why}" in found.detail
    assert f"not tegrastats: {why}" in found.detail
    assert f"not jtop: {why}" in found.detail
    found.source.close()


def test_tegrastats_is_taken_when_it_gives_a_total_in_time(bare):
    (bare / "usr/bin").mkdir(parents=True)
    fake_tegrastats(bare / "usr/bin", 'while true; do echo "$LINE"; sleep 0.1; done')
    found = open_power("auto", board="Orin NX", interval_s=0.1, root=bare)
    try:
        assert (found.source.name, found.source.scope) == ("tegrastats", "module")
        assert "not sysfs" in found.detail
    finally:
        found.source.close()


def test_a_named_tegrastats_that_tells_no_power_is_refused(bare):
    (bare / "usr/bin").mkdir(parents=True)
    fake_tegrastats(bare / "usr/bin", "while true; do echo 'RAM 1/2MB cpu@40C'; sleep 0.1; done")
    with pytest.raises(BadInput, match="--power: tegrastats: what it reads holds no power; as root it may"):
        open_power("tegrastats", board="Orin NX", interval_s=0.1, root=bare)


@pytest.mark.parametrize("spec", ["sysfs", "tegrastats", "jtop", "nvml", "rapl"])
def test_a_named_source_that_is_not_there_is_refused_in_one_line(bare, spec):
    check_spec(spec)
    with pytest.raises(BadInput, match=f"^--power: {spec}: ") as refusal:
        open_power(spec, board=None, interval_s=0.1, root=bare)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("spec", ["", "Auto", "sys", "replay", "replay:", "replay:/nonexistent/a.log", "none "])
def test_a_bad_spec_is_refused_before_any_device_is_opened(spec):
    for refuse in (check_spec, lambda spec: open_power(spec, board=None, interval_s=0.1)):
        with pytest.raises(BadInput, match=r"^--power: "):
            refuse(spec)


def test_none_is_none_and_a_bad_board_is_refused_for_any_source(bare):
    assert open_power("none", board=None, interval_s=0.1, root=bare).source is None
    with pytest.raises(BadInput, match="--board: no board 'Orion' is known"):
        open_power("none", board="Orion", interval_s=0.1, root=bare)


def test_a_replay_is_named_as_one_and_needs_no_board(bare):
    spec = f"replay:{log(bare, [LINE.format(mw=7)], 'nano.txt')}"
    check_spec(spec)
    found = open_power(spec, board=None, interval_s=0.1, root=bare)
    assert found.source.name == "replay of nano.txt"
    assert found.source.readings()[0].total_mw == 7
    assert found.detail.startswith("replay of nano.txt: ")
