"""What a report says about the board beside its figures, read from trees like those of real boards."""

from __future__ import annotations

import pytest
from sysfs_trees import fake_compatible, fake_file, fake_model

from edge.board import Board, device_identity, find_board


def fake_orin(root):
    fake_model(root, "NVIDIA Jetson Orin Nano Developer Kit")
    fake_file(
        root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"
    )
    fake_file(root, "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet")
    fake_file(
        root,
        "etc/nvpmodel.conf",
        "# a comment\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >",
    )
    fake_file(root, "sys/devices/system/cpu/present", "0-5")
    fake_file(root, "sys/devices/system/cpu/online", "0-2,5")
    fake_file(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", 1510400)
    fake_file(root, "sys/devices/system/cpu/cpu5/cpufreq/scaling_max_freq", 1728000)
    fake_file(root, "sys/class/devfreq/17000000.gpu/max_freq", 1020000000)
    fake_file(root, "sys/class/devfreq/15480000.nvdec/max_freq", 9990000000)
    fake_file(root, "proc/meminfo", "MemTotal:        7803000 kB\nMemFree: 1 kB")
    fake_file(root, "proc/sys/kernel/random/boot_id", "ec381bb8-272c-4e60-84fd-80c0e566913b")


def test_a_board_is_told_with_its_settings(tmp_path):
    fake_orin(tmp_path)
    assert device_identity(None, tmp_path) == {
        "board": "NVIDIA Jetson Orin Nano Developer Kit",
        "l4t": "36.4.3",
        "power_mode": "MAXN_SUPER (2)",
        "cores": "4 of 6 online",
        "cpu_max_mhz": "1728",
        "gpu_max_mhz": "1020",
        "memory": "7620 MiB",
        "host": "ec381bb8-272",
    }


def test_a_name_given_by_hand_goes_before_the_device_trees(tmp_path):
    fake_orin(tmp_path)
    assert device_identity("AGX Orin", tmp_path)["board"] == "AGX Orin"


def test_what_is_not_known_is_left_out(tmp_path):
    assert device_identity(None, tmp_path) == {}
    for path in ("etc/nv_tegra_release", "proc/meminfo", "var/lib/nvpmodel/status", "sys/devices/system/cpu/online"):
        fake_file(tmp_path, path, "\udce4 garbage".encode("utf-8", "replace").decode())
    fake_file(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "<unknown>")
    assert device_identity(None, tmp_path) == {}


def test_a_power_mode_without_a_table_is_its_number(tmp_path):
    fake_file(tmp_path, "var/lib/nvpmodel/status", "pmode:0008")
    assert device_identity(None, tmp_path) == {"power_mode": "8"}


ORIN_NX = ("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234")


@pytest.mark.parametrize(
    "tree", ["proc/device-tree", "sys/firmware/devicetree/base", "run/host/sys/firmware/devicetree/base"]
)
def test_the_device_tree_is_read_where_another_of_its_places_is_hidden(tmp_path, tree):
    assert find_board(tmp_path) == Board(None, None)
    fake_model(tmp_path, "Acme EdgeBox", tree)
    assert find_board(tmp_path) == Board("Acme EdgeBox", None)
    fake_compatible(tmp_path, "acme,edgebox", *ORIN_NX, tree=tree)
    assert find_board(tmp_path) == Board("Acme EdgeBox", "Orin NX")
    if tree != "proc/device-tree":
        fake_model(tmp_path, "")
        assert find_board(tmp_path) == Board("Acme EdgeBox", "Orin NX")


def test_nvidias_word_goes_before_the_makers_text(tmp_path):
    fake_model(tmp_path, "NVIDIA Jetson AGX Orin Developer Kit")
    fake_compatible(tmp_path, *ORIN_NX)
    assert find_board(tmp_path).name == "Orin NX"
    assert device_identity(None, tmp_path)["board"] == "NVIDIA Jetson AGX Orin Developer Kit (Orin NX)"


def test_a_compatible_that_names_no_board_leaves_it_to_the_text(tmp_path):
    fake_compatible(tmp_path, "nvidia,tegra234")
    assert find_board(tmp_path) == Board(None, None)
    fake_model(tmp_path, "NVIDIA Jetson Orin Nano Developer Kit")
    assert find_board(tmp_path).name == "Orin Nano"


@pytest.mark.parametrize(
    ("board", "shown"),
    [
        (Board(), None),
        (Board("Acme EdgeBox"), "Acme EdgeBox"),
        (Board("Acme EdgeBox", "Orin NX"), "Acme EdgeBox (Orin NX)"),
        (Board("lanai-3636", "TX2 NX"), "lanai-3636 (TX2 NX)"),
        (Board("NVIDIA Jetson Xavier NX Developer Kit", "Xavier NX"), "NVIDIA Jetson Xavier NX Developer Kit"),
        (Board(None, "Orin NX"), "Orin NX"),
    ],
)
def test_a_board_is_shown_as_its_maker_words_it_and_by_its_name(board, shown):
    assert board.shown == shown


def test_this_machine_is_told_too():
    facts = device_identity()
    assert len(facts["host"]) == 12
    assert all(isinstance(fact, str) and fact for fact in facts.values())
