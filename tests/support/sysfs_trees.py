"""Fake trees of /sys and /proc, laid out as on real boards. They stand for hardware that no test machine has."""

from __future__ import annotations

from pathlib import Path

# Volts and amperes of rails, as (label, mV, mA).
FAKE_ORIN_NANO = (("VDD_IN", 5000, 1000), ("VDD_CPU_GPU_CV", 5000, 200), ("VDD_SOC", 5000, 300))
FAKE_AGX_ORIN = (
    (("VDD_GPU_SOC", 20000, 120), ("VDD_CPU_CV", 20000, 20), ("VIN_SYS_5V0", 5000, 800)),
    (("NC", 5000, 1), ("VDDQ_VDD2_1V8AO", 1000, 300), ("NC", 5000, 1)),
)
FAKE_THOR = (("VDD_GPU", 20000, 100), ("VDD_CPU_SOC_MSS", 20000, 300), ("VIN_SYS_5V0", 5000, 1000))
FAKE_XAVIER = (
    (("GPU", 20000, 100), ("CPU", 20000, 50), ("SOC", 20000, 60)),
    (("CV", 20000, 0), ("VDDRQ", 20000, 20), ("SYS5V", 5000, 500)),
)


def fake_file(root: Path, path: str, text: str | int) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")
    return file


def fake_model(root: Path, text: str, tree: str = "proc/device-tree") -> None:
    fake_file(root, f"{tree}/model", "").write_bytes(text.encode() + b"\0")


def fake_compatible(root: Path, *entries: str, tree: str = "proc/device-tree") -> None:
    fake_file(root, f"{tree}/compatible", "").write_bytes(b"".join(entry.encode() + b"\0" for entry in entries))


def fake_hwmon(root: Path, chip: str, rails, hwmon: str = "hwmon3") -> Path:
    """An INA3221 of r34 and later: three channels, their sum on channel 7, and the sum's current on 4."""
    folder = f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/{hwmon}"
    for i, (label, mv, ma) in enumerate(rails, 1):
        fake_file(root, f"{folder}/in{i}_label", label)
        fake_file(root, f"{folder}/in{i}_input", mv)
        fake_file(root, f"{folder}/curr{i}_input", ma)
        fake_file(root, f"{folder}/in{i}_enable", 1)
    fake_file(root, f"{folder}/in7_label", "sum of shunt voltages")
    fake_file(root, f"{folder}/in7_input", 1)
    fake_file(root, f"{folder}/curr4_input", 99999)
    return root / folder


def fake_iio(root: Path, chip: str, rails) -> Path:
    """An INA3221 of NVIDIA's r32 kernel: power in mW."""
    folder = f"sys/bus/i2c/drivers/ina3221x/{chip}/iio:device0"
    for i, (label, mv, ma) in enumerate(rails):
        fake_file(root, f"{folder}/rail_name_{i}", label)
        fake_file(root, f"{folder}/in_power{i}_input", mv * ma // 1000)
    return root / folder


def fake_ina238(root: Path, mw: int) -> Path:
    return fake_file(root, "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon5/power1_input", mw * 1000)


def fake_zones(root: Path, zones) -> None:
    for i, (name, milli_c) in enumerate(zones):
        fake_file(root, f"sys/class/thermal/thermal_zone{i}/type", name)
        fake_file(root, f"sys/class/thermal/thermal_zone{i}/temp", milli_c)


def fake_packages(root: Path, energies_uj, range_uj: int = 262143328850) -> list[Path]:
    """RAPL: packages, with a core domain within each and psys around them."""
    counters = []
    for i, energy_uj in enumerate(energies_uj):
        fake_file(root, f"sys/class/powercap/intel-rapl:{i}/name", f"package-{i}")
        fake_file(root, f"sys/class/powercap/intel-rapl:{i}/max_energy_range_uj", range_uj)
        counters.append(fake_file(root, f"sys/class/powercap/intel-rapl:{i}/energy_uj", energy_uj))
        fake_file(root, f"sys/class/powercap/intel-rapl:{i}:0/name", "core")
        fake_file(root, f"sys/class/powercap/intel-rapl:{i}:0/energy_uj", 77)
    end = len(counters)
    fake_file(root, f"sys/class/powercap/intel-rapl:{end}/name", "psys")
    fake_file(root, f"sys/class/powercap/intel-rapl:{end}/energy_uj", 99)
    return counters
