"""The sensors in /sys, on trees laid out as on the boards."""

from __future__ import annotations

import errno
import os

import pytest
from sysfs_trees import (
    FAKE_AGX_ORIN,
    FAKE_ORIN_NANO,
    FAKE_THOR,
    FAKE_XAVIER,
    fake_file,
    fake_hwmon,
    fake_iio,
    fake_ina238,
    fake_zones,
)

from edge.power.sysfs import Sysfs


class Clock:
    """Time that only the test moves."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def open_sysfs(tmp_path):
    opened = []

    def opener(board=None, clock=None):
        opened.append(Sysfs(board, tmp_path, clock or Clock()))
        return opened[-1]

    yield opener
    for source in opened:
        source.close()


def fake_eio(monkeypatch, path):
    """A file whose every read fails, as those of a disabled channel do."""
    pread, inode = os.pread, os.stat(path).st_ino

    def fake_pread(fd, size, offset):
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.EIO, "Input/output error")
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", fake_pread)


def test_orin_nano_and_orin_nx(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    for board in ("Orin Nano", "Orin NX", None):
        source = open_sysfs(board)
        (reading,) = source.readings()
        assert reading.rails_mw == {"VDD_IN": 5000, "VDD_CPU_GPU_CV": 1000, "VDD_SOC": 1500}
        assert (reading.total_mw, source.scope, reading.at_s) == (5000, "module", 100.0)
        assert "VDD_IN, VDD_CPU_GPU_CV, VDD_SOC" in source.detail
        assert (source.name, source.problem()) == ("sysfs", None)


def test_agx_orin_has_two_chips_and_channels_that_lead_nowhere(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "1-0040", FAKE_AGX_ORIN[0])
    fake_hwmon(tmp_path, "1-0041", FAKE_AGX_ORIN[1], hwmon="hwmon4")
    (reading,) = open_sysfs("AGX Orin").readings()
    assert reading.rails_mw == {
        "VDD_GPU_SOC": 2400,
        "VDD_CPU_CV": 400,
        "VIN_SYS_5V0": 4000,
        "VDDQ_VDD2_1V8AO": 300,
    }
    assert reading.total_mw == 6800


def test_agx_xavier_on_either_kernel(tmp_path, open_sysfs):
    for i, rails in enumerate(FAKE_XAVIER):
        fake_iio(tmp_path, f"1-004{i}", rails)
    source = open_sysfs("AGX Xavier")
    (reading,) = source.readings()
    assert reading.rails_mw == {"GPU": 2000, "CPU": 1000, "SOC": 1200, "CV": 0, "VDDRQ": 400, "SYS5V": 2500}
    assert (reading.total_mw, source.scope) == (7100, "module")


def test_nano_of_r32_by_iio(tmp_path, open_sysfs):
    fake_iio(tmp_path, "6-0040", (("POM_5V_IN", 5000, 400), ("POM_5V_GPU", 5000, 8), ("POM_5V_CPU", 5000, 100)))
    source = open_sysfs("Nano")
    (reading,) = source.readings()
    assert reading.rails_mw == {"POM_5V_IN": 2000, "POM_5V_GPU": 40, "POM_5V_CPU": 500}
    assert (reading.total_mw, source.scope) == (2000, "board")


def test_thor_has_an_ina238_at_its_input(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "2-0040", FAKE_THOR)
    source = open_sysfs("AGX Thor")
    assert (source.readings()[0].total_mw, source.scope) == (13000, "module")
    fake_ina238(tmp_path, mw=19000)
    source = open_sysfs("AGX Thor")
    (reading,) = source.readings()
    assert (reading.rails_mw["VIN"], reading.total_mw, source.scope) == (19000, 19000, "board")


def test_an_input_that_could_not_be_read_at_first_takes_no_total_away(tmp_path, open_sysfs, monkeypatch):
    fake_hwmon(tmp_path, "2-0040", FAKE_THOR)
    power = fake_ina238(tmp_path, mw=19000)
    with monkeypatch.context() as patch:
        fake_eio(patch, power)
        source = open_sysfs("AGX Thor")
    (reading,) = source.readings()
    assert (reading.rails_mw["VIN"], reading.total_mw, source.scope) == (19000, 13000, "module")


def test_a_total_never_changes_its_scope(tmp_path, open_sysfs, monkeypatch):
    fake_hwmon(tmp_path, "2-0040", FAKE_THOR)
    power = fake_ina238(tmp_path, mw=19000)
    source = open_sysfs("AGX Thor")
    fake_eio(monkeypatch, power)
    (reading,) = source.readings()
    assert "VIN" not in reading.rails_mw
    assert reading.total_mw is None
    assert source.problem() == "no reading from VIN"


@pytest.mark.parametrize("file", ["in1_input", "curr1_input"])
def test_a_channel_that_fails_is_missing_for_that_reading_and_so_is_the_total(tmp_path, open_sysfs, monkeypatch, file):
    chip = fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    source = open_sysfs("Orin Nano")
    with monkeypatch.context() as patch:
        fake_eio(patch, chip / file)
        (reading,) = source.readings()
        assert reading.rails_mw == {"VDD_CPU_GPU_CV": 1000, "VDD_SOC": 1500}
        assert reading.total_mw is None
        assert "VDD_IN" in str(source.problem())
    assert source.readings()[0].total_mw == 5000
    assert source.problem() is None


def test_a_channel_that_fails_but_is_not_needed_takes_no_total_away(tmp_path, open_sysfs, monkeypatch):
    chip = fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    source = open_sysfs("Orin Nano")
    fake_eio(monkeypatch, chip / "in3_input")
    assert source.readings()[0].total_mw == 5000


@pytest.mark.parametrize("gone", ["in2_label", "in2_input", "curr2_input"])
def test_a_channel_without_a_file_is_left_out(tmp_path, open_sysfs, gone):
    chip = fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    (chip / gone).unlink()
    (reading,) = open_sysfs("Orin Nano").readings()
    assert reading.rails_mw == {"VDD_IN": 5000, "VDD_SOC": 1500}
    assert reading.total_mw == 5000


CARRIER = (("VDD_IN", 12000, 1500), ("VDD_5V", 5000, 100), ("VDD_3V3", 3000, 100))


@pytest.mark.parametrize("carrier", ["0-0041", "1-0041", "2-0040", "9-0040"])
def test_of_a_label_on_two_chips_the_modules_counts(tmp_path, open_sysfs, carrier):
    fake_hwmon(tmp_path, carrier, CARRIER, hwmon="hwmon5")
    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    source = open_sysfs("Orin NX")
    (reading,) = source.readings()
    assert (reading.total_mw, source.scope, source.problem()) == (5000, "module", None)
    assert reading.rails_mw["VDD_IN"] == 5000
    assert reading.rails_mw[f"VDD_IN ({carrier} 1)"] == 18000


def test_a_carriers_input_on_the_kernel_of_r32_is_not_the_modules(tmp_path, open_sysfs):
    fake_iio(tmp_path, "0-0042", CARRIER)
    fake_iio(tmp_path, "0-0041", (("VDD_IN", 19000, 150), ("VDD_SYS_CPU", 19000, 8)))
    assert open_sysfs("TX2").readings()[0].total_mw == 2850


@pytest.mark.parametrize(
    ("board", "chips"),
    [
        # No board, so no word on which chip is the module's; and chips where nobody knows the module's to be.
        (None, {"0-0041": CARRIER, "1-0040": FAKE_ORIN_NANO}),
        ("Orin NX", {"0-0041": CARRIER, "3-0040": FAKE_ORIN_NANO}),
        ("Orin NX", {"1-0040": (*FAKE_ORIN_NANO[:2], ("VDD_IN", 5000, 100))}),
        ("AGX Orin", {"1-0040": FAKE_AGX_ORIN[0], "1-0041": (("VIN_SYS_5V0", 5000, 1), *FAKE_AGX_ORIN[1][1:])}),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_label_that_stands_twice_and_is_nobodys_gives_no_total(tmp_path, open_sysfs, board, chips, order):
    for place, (chip, rails) in enumerate(list(chips.items())[::order]):
        fake_hwmon(tmp_path, chip, rails, hwmon=f"hwmon{place}")
    source = open_sysfs(board)
    (reading,) = source.readings()
    assert (reading.total_mw, source.scope) == (None, None)
    assert "stands there twice, and which is the module's is not known" in source.problem()
    # Nothing is lost: each has its chip and channel in its name.
    assert len(reading.rails_mw) == sum(label != "NC" for rails in chips.values() for label, *_ in rails)


def test_an_input_that_stands_twice_gives_no_narrower_total(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "2-0040", FAKE_THOR)
    for chip in ("2-0045", "2-0046"):
        fake_file(tmp_path, f"sys/bus/i2c/drivers/ina238/{chip}/hwmon/hwmon9/power1_input", 19_000_000)
    source = open_sysfs("AGX Thor")
    assert (source.readings()[0].total_mw, source.scope) == (None, None)


def test_a_label_that_stands_twice_but_is_not_needed_takes_no_total_away(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "0-0041", (("VDD_3V3", 3000, 9), ("VDD_SOC", 3000, 9000)), hwmon="hwmon5")
    fake_hwmon(tmp_path, "5-0041", (("VDD_3V3", 3000, 9), ("VDD_SOC", 3000, 9000)), hwmon="hwmon6")
    fake_hwmon(tmp_path, "5-0040", FAKE_ORIN_NANO)
    assert open_sysfs("Orin NX").readings()[0].total_mw == 5000


def test_a_current_below_zero_is_one(tmp_path, open_sysfs):
    rails = (("VDD_GPU_SOC", 19904, 80), ("VDD_CPU_CV", 19904, -20), ("VIN_SYS_5V0", 4968, 528))
    fake_hwmon(tmp_path, "1-0040", rails)
    (reading,) = open_sysfs("AGX Orin").readings()
    assert reading.rails_mw["VDD_CPU_CV"] == pytest.approx(-398.08)
    assert reading.total_mw == pytest.approx(3817.344)


def test_readings_are_of_now(tmp_path, open_sysfs):
    chip = fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    clock = Clock()
    source = open_sysfs("Orin Nano", clock)
    for ma in (1000, 3000, 12, 0):
        (chip / "curr1_input").write_text(f"{ma}\n")
        clock.now_s += 0.1
        (reading,) = source.readings()
        assert (reading.at_s, reading.total_mw) == (clock.now_s, 5 * ma)


def test_garbage_in_a_file_is_no_reading(tmp_path, open_sysfs):
    chip = fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    source = open_sysfs("Orin Nano")
    (chip / "curr1_input").write_text("n/a\n")
    assert source.readings()[0].total_mw is None


def test_an_unknown_board_has_rails_and_no_total(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    source = open_sysfs("Some Carrier")
    (reading,) = source.readings()
    assert reading.rails_mw["VDD_IN"] == 5000
    assert (reading.total_mw, source.scope) == (None, None)


def test_without_a_sensor_it_says_what_it_looked_for(tmp_path, open_sysfs):
    with pytest.raises(OSError, match=r"no INA3221 that can be read under .*/sys/bus/i2c/drivers"):
        open_sysfs()
    fake_hwmon(tmp_path, "1-0041", FAKE_AGX_ORIN[1][:1])
    with pytest.raises(OSError, match="no INA3221"):
        open_sysfs()


def test_what_changes_slowly_is_read_once_a_second(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    load = fake_file(tmp_path, "sys/devices/platform/bus@0/17000000.gpu/load", 437)
    fake_file(tmp_path, "sys/devices/platform/bus@0/serial/load", 999)
    fake_file(tmp_path, "sys/class/devfreq/17000000.gpu/cur_freq", 612000000)
    fake_file(tmp_path, "sys/class/devfreq/15340000.vic/cur_freq", 999000000)
    fake_zones(
        tmp_path,
        [
            ("cpu-thermal", 44125),
            ("GPU-therm", 45000),
            ("cv0-thermal", -256000),
            ("PMIC-Die", 100000),
            ("tj-thermal", -5),
        ],
    )
    clock = Clock()
    source = open_sysfs("Orin Nano", clock)
    (reading,) = source.readings()
    assert (reading.gpu_load, reading.gpu_mhz) == (43.7, 612)
    assert reading.temps_c == {"cpu": 44.125, "GPU": 45, "tj": -0.005}
    assert reading.throttled is None
    load.write_text("1000\n")
    clock.now_s += 0.5
    (reading,) = source.readings()
    assert (reading.total_mw, reading.gpu_load, reading.temps_c) == (5000, None, {})
    clock.now_s += 0.5
    assert source.readings()[0].gpu_load == 100


@pytest.mark.parametrize(
    "folder", ["sys/devices/gpu.0", "sys/devices/17000000.ga10b", "sys/devices/platform/17000000.gv11b"]
)
def test_a_gpus_load_lies_elsewhere_on_other_kernels(tmp_path, open_sysfs, folder):
    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    fake_file(tmp_path, f"{folder}/load", 120)
    assert open_sysfs("Orin Nano").readings()[0].gpu_load == 12


def test_a_board_that_counts_over_current_events_was_throttled_when_they_rise(tmp_path, open_sysfs):
    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    fake_file(tmp_path, "sys/class/hwmon/hwmon1/oc1_event_cnt", 7)
    events = fake_file(tmp_path, "sys/class/hwmon/hwmon1/oc3_event_cnt", 2)
    clock = Clock()
    source = open_sysfs("Orin Nano", clock)
    seen = []
    for count in (2, 5, 5):
        events.write_text(f"{count}\n")
        seen.append(source.readings()[0].throttled)
        clock.now_s += 1
    assert seen == [False, True, False]


def test_a_chip_that_comes_back_is_found_again(tmp_path, open_sysfs):
    chip = fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    clock = Clock()
    source = open_sysfs("Orin Nano", clock)
    (chip / "in1_input").write_text("")
    (chip / "in1_input").unlink()
    assert source.readings()[0].total_mw is None
    fake_file(tmp_path, str((chip / "in1_input").relative_to(tmp_path)), 4000)
    clock.now_s += 11
    source.readings()
    assert source.readings()[0].total_mw == 4000


def test_a_chip_that_went_away_for_good_is_told(tmp_path, open_sysfs):
    chip = fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    clock = Clock()
    source = open_sysfs("Orin Nano", clock)
    for file in chip.iterdir():
        file.write_text("")
        file.unlink()
    for _ in range(3):
        assert [reading.total_mw for reading in source.readings()] == [None]
        clock.now_s += 11
    assert "no INA3221 that can be read" in source.problem()


def test_closing_gives_every_file_back(tmp_path):
    def count():
        return len(os.listdir("/proc/self/fd"))

    fake_hwmon(tmp_path, "1-0040", FAKE_ORIN_NANO)
    fake_zones(tmp_path, [("cpu-thermal", 44125)])
    before = count()
    source = Sysfs("Orin Nano", tmp_path)
    assert count() == before + 7
    source.close()
    source.close()
    assert count() == before
    assert source.readings() == []
