"""The raw samples: whole after any kill, one table a set of columns, and drawn in a bounded number of bins."""

from __future__ import annotations

import csv
import gzip
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.storage import samples as samples_module
from coordinator.storage.samples import Columns, Samples, read_samples
from coordinator.storage.trace import MAX_BINS, MAX_INTERVALS, PowerTrace

COLUMNS = Columns(rails=("VDD_IN", "a,b"), sensors=("cpu",))
HEADER = ["at_s", "round", "client", "phase", "total_mw", "VDD_IN_mw", "a,b_mw", "gpu_load", "gpu_mhz", "cpu_c"]
HEADER += ["throttled"]


def row(at_s, total="5000", phase="train", round_=1, columns=COLUMNS):
    rails, temps = [total] * len(columns.rails), ["41.5"] * len(columns.sensors)
    return [f"{at_s:.3f}", str(round_), "0", phase, total, *rails, "99", "", *temps, "0"]


def table(path):
    """What any reader of gzip and CSV finds."""
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.reader(file))


def write(folder, device, *rows, columns=COLUMNS):
    """A process of its own, as far as the folder is concerned."""
    samples = Samples(folder)
    samples.add(device, columns, rows)
    samples.write()
    return samples


def test_a_file_is_a_table_with_its_header_first_however_often_it_is_appended_to(tmp_path):
    samples = Samples(tmp_path)
    for at_s in range(5):
        samples.add("ada", COLUMNS, [row(at_s), row(at_s + 0.5)])
        samples.write()
    assert table(tmp_path / "samples" / "ada.csv.gz") == [HEADER, *(row(at / 2) for at in range(10))]
    samples.write()  # nothing waits
    write(tmp_path, "ada", row(9))
    assert len(table(tmp_path / "samples" / "ada.csv.gz")) == 12


def test_no_samples_no_folder(tmp_path):
    write(tmp_path, "ada")
    assert list(tmp_path.iterdir()) == []


@given(cut=st.integers(0, 10_000), garbage=st.binary(max_size=20))
def test_what_a_kill_left_half_written_is_cut_off_and_the_table_goes_on(tmp_path_factory, cut, garbage):
    folder = tmp_path_factory.mktemp("killed")
    path = folder / "samples" / "ada.csv.gz"
    sizes = [0]
    for at_s in range(3):
        write(folder, "ada", row(at_s), row(at_s + 0.5))
        sizes.append(path.stat().st_size)
    data = path.read_bytes()[: cut % (sizes[-1] + 1)]
    path.write_bytes(data + garbage)
    whole = max(number for number, size in enumerate(sizes) if size <= len(data))
    write(folder, "ada", row(7))
    kept = [row(at / 2) for at in range(2 * whole)]
    assert table(path) == [HEADER, *kept, row(7)]
    assert [each["at_s"] for each in read_samples(folder, "ada")] == [each[0] for each in [*kept, row(7)]]


def test_another_set_of_rails_begins_a_file_of_its_own(tmp_path):
    other = Columns(rails=("POM_5V_IN",))
    samples = write(tmp_path, "ada", row(1))
    samples.add("ada", other, [row(2, columns=other)])
    samples.add("ada", other, [row(3, columns=other)])
    samples.add("ada", COLUMNS, [row(4)])
    samples.write()
    files = [tmp_path / "samples" / name for name in ("ada.csv.gz", "ada+2.csv.gz", "ada+3.csv.gz")]
    assert sorted((tmp_path / "samples").iterdir()) == sorted(files)
    assert [[line[0] for line in table(file)[1:]] for file in files] == [["1.000"], ["2.000", "3.000"], ["4.000"]]
    # After a restart it goes on in the last one.
    write(tmp_path, "ada", row(5))
    assert len(table(files[2])) == 3
    assert [each["at_s"] for each in read_samples(tmp_path, "ada")] == [f"{at}.000" for at in range(1, 6)]


def test_rails_that_change_all_the_time_do_not_fill_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(samples_module, "MAX_FILES", 3)
    samples = Samples(tmp_path)
    for number in range(20):
        columns = Columns(rails=(f"r{number}",))
        samples.add("ada", columns, [row(number, columns=columns)])
    samples.write()
    assert len(list((tmp_path / "samples").iterdir())) == 3


@pytest.mark.parametrize("name", ["../../etc/x", "..", "a/b", "ada+2", "é" * 100, "%2e", " ", "C:\\x"])
def test_any_name_of_a_device_is_a_file_of_its_own_in_the_folder(tmp_path, name):
    other = Columns(rails=("other",))
    for device in (name, "ada"):
        samples = write(tmp_path, device, row(1))
        samples.add(device, other, [row(2, columns=other)])
        samples.write()
    paths = {samples._path(device, number) for device in (name, "ada") for number in (1, 2)}
    assert len(paths) == len({name, "ada"}) * 2 and all(path.parent == tmp_path / "samples" for path in paths)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == paths


def test_what_waits_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(samples_module, "MAX_WAITING_BYTES", 1000)
    samples = Samples(tmp_path)
    for at_s in range(1000):
        samples.add("ada", COLUMNS, [row(at_s)])
    samples.write()
    held = len(table(tmp_path / "samples" / "ada.csv.gz"))
    assert 10 < held < 30
    samples.add("ada", COLUMNS, [row(1)])
    samples.write()
    assert len(table(tmp_path / "samples" / "ada.csv.gz")) == held + 1


def test_a_disk_that_takes_no_more_is_an_error_and_leaves_a_file_to_go_on_with(tmp_path):
    samples = write(tmp_path, "ada", row(1))
    path = tmp_path / "samples" / "ada.csv.gz"
    path.rename(path.with_suffix(".away"))
    path.symlink_to("/dev/full")
    samples.add("ada", COLUMNS, [row(2)])
    with pytest.raises(OSError) as caught:
        samples.write()
    assert "No space left" in str(caught.value)
    path.unlink()
    path.with_suffix(".away").rename(path)
    samples.add("ada", COLUMNS, [row(3)])
    samples.write()
    assert [line[0] for line in table(path)[1:]] == ["1.000", "3.000"]


# ---- the trace


def test_a_trace_is_the_mean_power_in_each_bin_with_the_phases_beside_it(tmp_path):
    samples = Samples(tmp_path)
    begin = 1_800_000_000.0
    rows = [row(begin + at / 10, total=str(1000 * (at // 10 + 1)), phase="load" if at < 20 else "train")
            for at in range(40)]  # fmt: skip
    samples.add("ada", COLUMNS, rows, 0.1)
    samples.add("bob", COLUMNS, [row(begin + 5), row(begin + 5.6, total="")], 0.1)
    samples.write()
    shown = samples.traces({"ada": 0.1, "bob": 0.1, "cyd": 0.1})
    assert shown["cyd"] is None
    assert shown["ada"] == {
        "bin_s": 0.5,
        "from_s": 0.0,
        "power_w": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0],
        "phases": [[0.0, 2.0, 1, "load"], [2.0, 3.9, 1, "train"]],
    }
    assert (shown["bob"]["from_s"], shown["bob"]["power_w"]) == (5.0, [5.0, None])
    json.dumps(shown, allow_nan=False)
    # After a restart it is drawn from the files, to the same.
    again = Samples(tmp_path)
    assert again.traces({"ada": 0.1, "bob": 0.1, "cyd": 0.1}) == shown
    again.add("ada", COLUMNS, [row(begin + 4.2)])
    again.write()
    assert again.traces({"ada": 0.1})["ada"]["power_w"] == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0]


def test_bins_are_never_narrower_than_two_intervals():
    trace = PowerTrace(5.0)
    for at in range(10):
        trace.add(1e9 + 5.0 * at, 1, "train", 2.0)
    assert None not in trace.shown(1e9)["power_w"]


def test_bins_follow_the_samples_where_the_announced_interval_is_another():
    """A replayed log of one line a second, of a worker that announced its own ten readings a second."""
    trace = PowerTrace(0.1)
    for at in range(120):
        trace.add(1e9 + at + 0.4, 1, "train", None if 40 <= at < 60 else 2.0)
    shown = trace.shown(1e9)
    assert (shown["bin_s"], shown["power_w"]) == (2.0, [2.0] * 20 + [None] * 10 + [2.0] * 30)


def test_a_trace_stays_small_however_long_a_run_is():
    trace, random_ = PowerTrace(), random.Random(1)
    at_s, total, count = 1e9, 0.0, 0
    for number in range(30_000):
        at_s += random_.random() * 10
        trace.add(at_s, number // 5, ("train", "upload", "idle")[number % 3], 7.0)
        total, count = total + 7.0, count + 1
    shown = trace.shown(1e9)
    assert MAX_BINS / 2 <= len(shown["power_w"]) <= MAX_BINS and len(shown["phases"]) <= MAX_INTERVALS
    assert set(shown["power_w"]) == {7.0}
    # The phases are without holes, in order.
    assert all(one[1] == two[0] for one, two in zip(shown["phases"], shown["phases"][1:], strict=False))
    assert (shown["phases"][0][0], shown["phases"][-1][1]) == (pytest.approx(0, abs=10), pytest.approx(at_s - 1e9))


@given(st.permutations(range(12)))
def test_the_bins_do_not_depend_on_the_order_of_arrival(order):
    trace = PowerTrace()
    for at in order:
        trace.add(1e9 + 97.0 * at, 1, "train", float(at))
    assert [watts for watts in trace.shown(1e9)["power_w"] if watts is not None] == [float(at) for at in range(12)]
