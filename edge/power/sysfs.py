"""The board's own sensors, read from /sys: INA3221 (and Thor's INA238), GPU, temperatures, throttling.

Readable without root, and inside a container. A read of one register takes about half a millisecond on the I2C bus, so
what changes slowly is read once a second. Paths: r34 and later hwmon, r32 iio (both of NVIDIA's kernels).
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.power.rails import module_chips, total_of
from edge.power.source import Reading

_HWMON = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
_IIO = "sys/bus/i2c/drivers/ina3221x/*/iio:device*"
_INA238 = "sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*"
# Nodes of an integrated GPU: gpu.0, 17000000.gpu, gv11b (Xavier), ga10b (Orin), gp10b (TX2), gm20b (TX1, Nano).
_GPUS = ("gpu", "gv11b", "ga10b", "gp10b", "gm20b")
_LOADS = ("sys/devices/*/load", "sys/devices/platform/*/load", "sys/devices/platform/*/*/load")
_SLOW_S = 1.0
# A chip whose driver was bound anew has new files.
_LOOK_AGAIN_S = 10.0
_OFFLINE_MILLI_C = -256_000
_DUMMY_PMIC_MILLI_C = (50_000, 100_000)


@dataclass(frozen=True, slots=True)
class _Sensor:
    """One channel of a chip: its power is the product of what the files hold, times `scale`."""

    label: str
    chip: str
    """I2C bus and address."""
    number: int
    files: tuple[Path, ...]
    scale: float


@dataclass(frozen=True, slots=True)
class _Channel:
    """A sensor that is open."""

    fds: tuple[int, ...]
    scale: float

    def mw(self) -> float:
        """Raises OSError (EIO from a disabled channel) or ValueError."""
        power = self.scale
        for fd in self.fds:
            power *= _number(fd)
        return power


@dataclass(frozen=True, slots=True)
class _Slow:
    """What is read once a second."""

    loads: tuple[int, ...]
    clocks: tuple[int, ...]
    temps: tuple[tuple[str, int], ...]
    throttles: tuple[int, ...]


class Sysfs:
    """The sensors of this board. Raises OSError where it has none that can be read."""

    name = "sysfs"

    def __init__(self, board: str | None, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        """`board` is the model's text; None judges by the rails alone."""
        self._board, self._root, self._clock = board, root, clock
        self._channels: dict[str, _Channel] = {}
        self._twice: frozenset[str] = frozenset()
        self._open_channels()
        if not self._channels:
            raise OSError(self._none())
        self._slow = _Slow(
            loads=_open_all(sorted({path for pattern in _LOADS for path in root.glob(pattern) if _is_gpu(path)})),
            clocks=_open_all(filter(_is_gpu, sorted(root.glob("sys/class/devfreq/*/cur_freq")))),
            temps=tuple(_zones(root)),
            throttles=_open_all(sorted(root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt"))),
        )
        self._events = self._count_events()
        self._slow_at_s = self._looked_at_s = float("-inf")
        self._problem: str | None = None
        self._closed = False
        self.scope = total_of(self._rails(), board, twice=self._twice).scope
        self.detail = f"INA3221 in sysfs: {', '.join(self._channels)}"

    def readings(self) -> list[Reading]:
        if self._closed:
            return []
        at_s = self._clock()
        rails = self._rails()
        total = total_of(rails, self._board, self.scope, self._twice)
        self._problem = total.warning
        missing = [name for name in self._channels if name not in rails]
        if missing:
            self._problem = f"no reading from {', '.join(missing)}"
        elif not self._channels:
            self._problem = self._none()
        if (missing or total.mw is None) and at_s - self._looked_at_s >= _LOOK_AGAIN_S:
            self._looked_at_s = at_s
            self._open_channels()
        # What the scope says holds for every total of this source.
        self.scope = self.scope or total.scope
        if at_s - self._slow_at_s < _SLOW_S:
            return [Reading(at_s=at_s, rails_mw=rails, total_mw=total.mw)] if rails else []
        self._slow_at_s = at_s
        loads, clocks = list(_numbers(self._slow.loads)), list(_numbers(self._slow.clocks))
        return [
            Reading(
                at_s=at_s,
                rails_mw=rails,
                total_mw=total.mw,
                # Per mille.
                gpu_load=max(loads) / 10 if loads else None,
                gpu_mhz=max(clocks) / 1e6 if clocks else None,
                temps_c=self._temps(),
                throttled=self._throttled(),
            )
        ]

    def problem(self) -> str | None:
        return self._problem

    def close(self) -> None:
        self._closed = True
        channels, self._channels = self._channels, {}
        slow, self._slow = self._slow, _Slow((), (), (), ())
        for channel in channels.values():
            _close(channel.fds)
        _close((*slow.loads, *slow.clocks, *(fd for _, fd in slow.temps), *slow.throttles))

    def _none(self) -> str:
        return f"no INA3221 that can be read under {self._root / 'sys/bus/i2c/drivers'}"

    def _rails(self) -> dict[str, float]:
        rails = {}
        for name, channel in self._channels.items():
            try:
                rails[name] = channel.mw()
            except (OSError, ValueError):
                # Disabled or off at present: missing, and so is the total if it needs it.
                continue
        return rails

    def _open_channels(self) -> None:
        for channel in self._channels.values():
            _close(channel.fds)
        self._channels = {}
        named, self._twice = _named(_sensors(self._root), module_chips(self._board))
        for name, sensor in named.items():
            fds = _open_all(sensor.files)
            if len(fds) == len(sensor.files):
                self._channels[name] = _Channel(fds, sensor.scale)
            else:
                _close(fds)

    def _temps(self) -> dict[str, float]:
        temps: dict[str, float] = {}
        for name, fd in self._slow.temps:
            for milli in _numbers((fd,)):
                dummy = name.upper().startswith("PMIC") and milli in _DUMMY_PMIC_MILLI_C
                if milli > _OFFLINE_MILLI_C and not dummy:
                    temps.setdefault(name, milli / 1000)
        return temps

    def _count_events(self) -> float | None:
        counts = list(_numbers(self._slow.throttles))
        return sum(counts) if counts else None

    def _throttled(self) -> bool | None:
        """Whether the over-current counters rose since the last look."""
        before, self._events = self._events, self._count_events()
        return None if before is None or self._events is None else self._events > before


def labels_twice(root: Path = Path("/")) -> frozenset[str]:
    """The labels that stand at several sensors here, also where one of them is known to be the module's: what another
    source tells by its label alone may be of either."""
    labels = Counter(sensor.label for sensor in _sensors(root))
    return frozenset(label for label, count in labels.items() if count > 1)


def _sensors(root: Path) -> Iterator[_Sensor]:
    """Every channel that has a label, chip by chip."""
    for folder in sorted(root.glob(_HWMON)):
        # in4 to in7 and curr4 are sums of channels, and shunt voltages.
        for i in (1, 2, 3):
            files = (folder / f"in{i}_input", folder / f"curr{i}_input")
            yield from _sensor(_text(folder / f"in{i}_label"), folder.parent.parent.name, i, files, 1e-3)  # mV x mA
    for folder in sorted(root.glob(_IIO)):
        for i in (0, 1, 2):
            file = folder / f"in_power{i}_input"
            yield from _sensor(_text(folder / f"rail_name_{i}"), folder.parent.name, i, (file,), 1.0)
    for folder in sorted(root.glob(_INA238)):
        # Thor's board input. Its driver gives no label.
        label = _text(folder / "power1_label") or "VIN"
        yield from _sensor(label, folder.parent.parent.name, 1, (folder / "power1_input",), 1e-3)  # microwatts


def _sensor(label: str | None, chip: str, number: int, files: tuple[Path, ...], scale: float) -> Iterator[_Sensor]:
    if label and label != "NC" and all(file.exists() for file in files):
        yield _Sensor(label, chip, number, files, scale)


def _named(sensors: Iterable[_Sensor], module: Collection[str]) -> tuple[dict[str, _Sensor], frozenset[str]]:
    """Sensors by name, and the labels that none of them is named by, as several have them and not just one is on a chip
    of the `module`. Those have chip and channel in their names."""
    by_label: dict[str, list[_Sensor]] = defaultdict(list)
    for sensor in sensors:
        by_label[sensor.label].append(sensor)
    named: dict[str, _Sensor] = {}
    twice = set()
    for label, alike in by_label.items():
        own = alike if len(alike) == 1 else [sensor for sensor in alike if sensor.chip in module]
        if len(own) != 1:
            own = []
            twice.add(label)
        for sensor in alike:
            named[label if sensor in own else f"{label} ({sensor.chip} {sensor.number})"] = sensor
    return named, frozenset(twice)


def _is_gpu(path: Path) -> bool:
    return any(name in path.parent.name for name in _GPUS)


def _zones(root: Path) -> Iterable[tuple[str, int]]:
    """Thermal zones by the names that tegrastats gives them."""
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name = _text(zone / "type")
        if name:
            for fd in _open_all((zone / "temp",)):
                yield name.removesuffix("-thermal").removesuffix("-therm"), fd


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None


def _open_all(paths: Iterable[Path]) -> tuple[int, ...]:
    fds = []
    for path in paths:
        try:
            fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue
    return tuple(fds)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _number(fd: int) -> float:
    """What a file of /sys holds now: a read from its beginning makes the driver measure anew."""
    return float(int(os.pread(fd, 32, 0)))


def _numbers(fds: Iterable[int]) -> Iterable[float]:
    for fd in fds:
        try:
            yield _number(fd)
        except (OSError, ValueError):
            continue
