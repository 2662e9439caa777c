"""By which words a board is known."""

from __future__ import annotations

import pytest

from edge.board_names import BOARDS, board_in, board_of, check_board
from federa.errors import BadInput


@pytest.mark.parametrize(
    ("model", "board"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", "Orin Nano"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "Orin Nano"),
        ("NVIDIA Orin NX Developer Kit", "Orin NX"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "AGX Orin"),
        ("Jetson-AGX", "AGX Xavier"),
        ("NVIDIA Jetson AGX Xavier Industrial", "AGX Xavier"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "Xavier NX"),
        ("NVIDIA Jetson TX2 NX Developer Kit", "TX2 NX"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "AGX Thor"),
        ("NVIDIA Jetson Nano Developer Kit", "Nano"),
        ("NVIDIA Jetson Nano 2GB Developer Kit", None),
        ("jetson_tx1", "TX1"),
        ("quill", "TX2"),
        ("quill-p3310-1000", "TX2"),
        ("storm", "TX2"),
        ("lanai-3636", "TX2 NX"),
        ("lanai", "TX2 NX"),
        ("jetson-xavier", "AGX Xavier"),
        ("jetson_cv", "TX1"),
        ("NVIDIA Jetson TX2i", "TX2"),
        ("NVIDIA Jetson Orin NX Seeed recomputer classic Super", "Orin NX"),
        ("NVIDIA Jetson AGX Orin Industrial", "AGX Orin"),
        ("Acme P3668-0001 on carrier P3509-0000", "Xavier NX"),
        ("Lightning Box 2000", None),
        ("orin nano", "Orin Nano"),
        ("agx-orin", "AGX Orin"),
        ("AGX_Orin", "AGX Orin"),
        ("Raspberry Pi 5 Model B Rev 1.0", None),
        ("Jetson Orin", None),
        ("", None),
    ],
)
def test_a_model_is_a_board_of_the_table_or_none(model, board):
    assert board_of(model) == board


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_may_be_named_by_its_short_name(board):
    for name in (board, board.lower(), board.replace(" ", "-"), board.replace(" ", "_").upper()):
        assert check_board(name) == board


def test_a_board_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(
        BadInput, match="--board: no board 'Orin Nono' is known; it may be Orin Nano, Orin NX"
    ) as refusal:
        check_board("Orin Nono")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("entries", "board"),
    [
        ("nvidia,p3768-0000+p3767-0000 nvidia,p3767-0000 nvidia,tegra234", "Orin NX"),
        ("nvidia,p3768-0000+p3767-0001 nvidia,p3767-0001 nvidia,tegra234", "Orin NX"),
        ("nvidia,p3768-0000+p3767-0005-super nvidia,p3767-0005 nvidia,tegra234", "Orin Nano"),
        ("nvidia,p3509-0000+p3767-0003 nvidia,p3767-0003 nvidia,tegra234 nvidia,tegra23x", "Orin Nano"),
        ("nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005 nvidia,tegra234 nvidia,tegra23x", "AGX Orin"),
        ("nvidia,p3740-0002+p3701-0008 nvidia,p3701-0008 nvidia,tegra234", "AGX Orin"),
        ("nvidia,p3509-0000-a00+p3668-0000-a01 nvidia,p3509-0000-a00+p3668-0001-a01 nvidia,tegra194", "Xavier NX"),
        ("nvidia,p3449-0000+p3668-0003 nvidia,tegra194", "Xavier NX"),
        ("nvidia,p3509-0000+p3636-0001 nvidia,tegra186", "TX2 NX"),
        ("nvidia,p2822-0000+p2888-0004 nvidia,p2888-0004 nvidia,tegra194", "AGX Xavier"),
        ("nvidia,e3900-0000+p2888-0004 nvidia,tegra194", "AGX Xavier"),
        ("nvidia,p2972-0000 nvidia,tegra194", "AGX Xavier"),
        ("nvidia,galen-industrial nvidia,jetson-xavier-industrial nvidia,tegra194", "AGX Xavier"),
        ("nvidia,p3449-0000-b00+p3448-0000-b00 nvidia,jetson-nano nvidia,tegra210", "Nano"),
        ("nvidia,p3450-0000 nvidia,tegra210", "Nano"),
        # It has no sensor, and says of itself that it is a Nano.
        ("nvidia,p3542-0000+p3448-0003 nvidia,jetson-nano nvidia,tegra210", None),
        ("nvidia,quill nvidia,tegra186", "TX2"),
        ("nvidia,storm nvidia,tegra186", "TX2"),
        ("nvidia,p2597-0000+p3310-1000 nvidia,tegra186", "TX2"),
        ("nvidia,p2771-0000 nvidia,tegra186", "TX2"),
        ("nvidia,p3489-0888 nvidia,tegra186", "TX2"),
        ("nvidia,jetson-cv nvidia,tegra210", "TX1"),
        ("nvidia,p2597-2180 nvidia,tegra210", "TX1"),
        ("nvidia,p2371-2180 nvidia,tegra210", "TX1"),
        ("nvidia,p4071-0000+p3834-0008 nvidia,p3834-0008 nvidia,tegra264", "AGX Thor"),
        ("acme,edgebox-220 nvidia,p3768-0000+p3767-0000 nvidia,p3767-0000 nvidia,tegra234", "Orin NX"),
        # A carrier alone, a chip alone, and another maker's numbers.
        ("nvidia,p3768-0000 nvidia,tegra234", None),
        ("acme,p3701-0000 nvidia,tegra234", None),
        ("raspberrypi,5-model-b brcm,bcm2712", None),
        ("", None),
    ],
)
def test_nvidias_entries_of_compatible_name_the_board(entries, board):
    assert board_in(entries.split()) == board
