"""What a message shows of foreign text."""

from __future__ import annotations

import pytest

from federa.errors import MAX_SHOWN, one_line, shown


@pytest.mark.parametrize(
    "text, safe",
    [
        ("plain: größer, 日本", "plain: größer, 日本"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("a\u202eb\x9bc", "a\\u202eb\\x9bc"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, safe: str) -> None:
    assert shown(text) == safe


@pytest.mark.parametrize("sign", ["x", "\x1b", "\U000e0001"])
def test_long_text_is_cut(sign: str) -> None:
    assert len(shown(sign * MAX_SHOWN)) <= MAX_SHOWN
    assert len(shown(sign * 100_000, 60)) == 60
    assert shown(sign * 100_000).endswith("…")


def test_an_error_is_its_first_line() -> None:
    assert one_line(ValueError("first \x1b]0;x\nsecond")) == "first \\x1b]0;x"
    assert one_line(ValueError()) == "ValueError"
