"""One board's rails give the same total and scope, whichever source tells them: /sys, tegrastats, or jtop."""

from __future__ import annotations

import pytest
from fake_jtop import fake_power, install_fake_jtop
from sysfs_trees import fake_compatible, fake_hwmon, fake_iio, fake_ina238, fake_model

from benchmarks.tegrastats_log import TegrastatsLog
from edge.board_names import BOARDS
from edge.power.choice import open_power
from edge.power.rails import module_chips
from edge.power.replay import Replay

_INPUT = (("VDD_IN", 5000, 1000), ("VDD_CPU_GPU_CV", 5000, 200), ("VDD_SOC", 5000, 300))
_TX_INPUT = (("VDD_IN", 19000, 150), ("VDD_SYS_CPU", 19000, 8), ("VDD_SYS_DDR", 5000, 120))
_AGX_ORIN = (
    (("VDD_GPU_SOC", 20000, 80), ("VDD_CPU_CV", 20000, -20), ("VIN_SYS_5V0", 5000, 528)),
    (("NC", 5000, 1), ("VDDQ_VDD2_1V8AO", 1000, 300), ("NC", 5000, 1)),
)
_THOR = (("VDD_GPU", 19000, -20), ("VDD_CPU_SOC_MSS", 20000, 300), ("VIN_SYS_5V0", 5000, 1000))
_NVIDIA = {
    "Orin Nano": "p3767-0005", "Orin NX": "p3767-0000", "AGX Orin": "p3701-0005", "Xavier NX": "p3668-0001",
    "TX2 NX": "p3636-0001", "AGX Xavier": "p2888-0004", "Nano": "p3448-0000", "TX1": "p2180-1000", "TX2": "p3310-1000",
    "AGX Thor": "p3834-0008",
}  # fmt: skip
# A board's chips, each with its channels as (label, mV, mA); the total and its scope.
BOARD_RAILS = [
    ("Orin Nano", (_INPUT,), 5000, "module"),
    ("Orin NX", (_INPUT,), 5000, "module"),
    ("AGX Orin", _AGX_ORIN, 1600 - 400 + 2640, "module"),
    ("Xavier NX", (_INPUT,), 5000, "module"),
    ("TX2 NX", ((_INPUT[0], ("VDD_CPU_GPU", 5000, 300), _INPUT[2]),), 5000, "module"),
    (
        "AGX Xavier",
        (
            (("GPU", 20000, 100), ("CPU", 20000, 50), ("SOC", 20000, -1)),
            (("CV", 20000, 0), ("VDDRQ", 20000, 20), ("SYS5V", 5000, 500)),
        ),
        2000 + 1000 - 20 + 0 + 400 + 2500,
        "module",
    ),
    ("Nano", ((("POM_5V_IN", 5000, 400), ("POM_5V_GPU", 5000, 8), ("POM_5V_CPU", 5000, 100)),), 2000, "board"),
    ("TX1", ((("VDD_IN", 19000, 200), ("VDD_GPU", 19000, 20), ("VDD_CPU", 19000, 30)),), 3800, "module"),
    (
        "TX2",
        ((("VDD_SYS_GPU", 19000, 8), ("VDD_SYS_SOC", 19000, 20), ("VDD_4V0_WIFI", 4000, 5)), _TX_INPUT,
         (("VDD_MUX", 19000, 300), ("VDD_5V0_IO_SYS", 5000, 200), ("VDD_3V3_SYS", 3000, 100)),
         (("VDD_3V3_IO_SLP", 3000, 30), ("VDD_1V8_IO", 2000, 30), ("VDD_3V3_SYS_M2", 3000, 0))),
        2850,
        "module",
    ),
    ("AGX Thor", (_THOR,), -380 + 6000 + 5000, "module"),
    ("AGX Thor", (_THOR, 19000), 19000, "board"),
]  # fmt: skip
# As r32, r34 to r38, and r39 print a rail.
FORMS = ("{name} {mw}/{mw}", "{name} {mw}mW/{mw}mW", "{name} {mw}mW/{mw}mW/{mw}mW")
_CARRIER = ("0-0042", "0-0043")


def fake_tree(root, board, chips, iio):
    """The board's /sys, its chips where they are on a real one."""
    fake_model(root, "Acme EdgeBox")
    fake_compatible(root, "acme,edgebox", f"nvidia,{_NVIDIA[board]}", "nvidia,tegra999")
    for place, (chip, channels) in enumerate(zip((*module_chips(board), *_CARRIER), chips, strict=False)):
        if isinstance(channels, int):
            fake_ina238(root, mw=channels)
        elif iio:
            fake_iio(root, chip, channels)
        else:
            fake_hwmon(root, chip, channels, hwmon=f"hwmon{place}")


def rails_of(chips):
    """As tegrastats and jtop tell them, jtop without NC."""
    rails = [(label, mv * ma // 1000) for chip in chips if not isinstance(chip, int) for label, mv, ma in chip]
    return rails + [("VIN", chip) for chip in chips if isinstance(chip, int)]


def test_they_are_all_boards():
    assert {board for board, *_ in BOARD_RAILS} == set(BOARDS) == set(_NVIDIA)


@pytest.mark.parametrize(("board", "chips", "mw", "scope"), BOARD_RAILS)
@pytest.mark.parametrize("iio", [False, True])
def test_sysfs(tmp_path, board, chips, mw, scope, iio):
    fake_tree(tmp_path, board, chips, iio)
    source = open_power("sysfs", board=None, interval_s=0.1, root=tmp_path).source
    (reading,) = source.readings()
    assert (reading.total_mw, source.scope) == (pytest.approx(mw), scope)
    assert dict(reading.rails_mw) == pytest.approx({name: mw for name, mw in rails_of(chips) if name != "NC"})
    source.close()


@pytest.mark.parametrize(("board", "chips", "mw", "scope"), BOARD_RAILS)
@pytest.mark.parametrize("form", FORMS)
def test_tegrastats(tmp_path, board, chips, mw, scope, form):
    rails = " ".join(form.format(name=name, mw=mw) for name, mw in rails_of(chips))
    log = tmp_path / "log.txt"
    log.write_text(f"RAM 1/2MB (lfb 1x4MB) CPU [1%@729] cpu@44C {rails}\n" * 2)
    for known in (board, None):  # a log does not say its board
        source = Replay(log, board=known)
        assert (source.readings()[0].total_mw, source.scope) == (mw, scope)
    with log.open("rb") as file:
        report = TegrastatsLog(file)
        assert {(sample["total_mw"], sample["scope"]) for sample in report.samples()} == {(mw, scope)}


@pytest.mark.parametrize(("board", "chips", "mw", "scope"), BOARD_RAILS)
def test_jtop(tmp_path, monkeypatch, board, chips, mw, scope):
    fake_tree(tmp_path, board, chips, iio=False)
    install_fake_jtop(monkeypatch, fake_power({name: mw for name, mw in rails_of(chips) if name != "NC"}))
    source = open_power("jtop", board=None, interval_s=0.1, root=tmp_path).source
    source._service.beat()
    (reading,) = source.readings()
    assert (reading.total_mw, source.scope) == (mw, scope)
    assert dict(reading.rails_mw) == {name: mw for name, mw in rails_of(chips) if name != "NC"}
    source.close()
