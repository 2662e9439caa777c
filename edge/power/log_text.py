"""What a log puts around tegrastats' words: colours, quotes, escapes. `plain` takes it off.

Signs that are no part of tegrastats' grammar become blanks where they are known to enclose or to separate. Whatever
else tegrastats never prints (a byte that was damaged, a letter of another script) stays, so that a field which was
damaged is not taken for a shorter one.
"""

from __future__ import annotations

import re
import unicodedata

# Of ECMA-48: control sequences, of which styles stand within words, too; commands with their text; the short ones.
_ESCAPE = re.compile(
    r"(?P<style>\x1b\[[0-9;:]{0,32}[mK])|\x1b\[[0-?]{0,32}[ -/]{0,4}[@-~]|"
    r"\x1b[\]PX^_][^\x07\x1b]{0,256}(?:\x07|\x1b\\)?|\x1b[ -/]{0,4}[0-~]"
)
# As JSON, Python and shells write them: `\n`, `\u001b[36m`, `\033[0m`.
_BACKSLASHED = re.compile(
    r"\\{1,4}(?:u00(?P<u>[0-9A-Fa-f]{2})|x(?P<x>[0-9A-Fa-f]{2}(?:\\{1,4}x[0-9A-Fa-f]{2}){0,8})|(?P<escape>033|e(?=\[))|[nrtbfv])"
)
_ENCLOSING = "\"'`{}<>|;=*#~^&$!\\"
_SIGNS = {
    **dict.fromkeys((*range(32), 127), "\ufffd"),
    **{ord(sign): " " for sign in _ENCLOSING + "\t\n\v\f\r\x1c\x1d\x1e\x1f"},
}
_FOREIGN = re.compile(r"[^\x00-\x7f]")
CUT = "\u2026"
"""What programs put where they left something out."""

DATE = r"(?<!\d)(\d{1,2})-(\d{1,2})-(\d{4})(?:[ ,:]{1,3}|[T_-])(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)"
"""`MM-DD-YYYY HH:MM:SS`, whatever else touches it."""
_BEGINNING = re.compile(
    rf"(?:{DATE}[ ,:()\[\]]{{0,4}})?(?<![A-Za-z])RAM[ ,:]{{0,3}}\d{{1,9}} ?/ ?\d{{1,9}} ?[kMG]B", re.ASCII
)


def plain(text: str) -> str:
    """The text with single blanks, without what encloses its words. Plain text stays as it is."""
    if "\\" in text:
        text = _BACKSLASHED.sub(_unescaped, text).replace("\\/", "/")
    text = text.replace("^[", "\x1b").replace("...", CUT)  # the first as `cat -v` shows it
    if "\x1b" in text:
        text = _ESCAPE.sub(lambda match: "" if match["style"] else " ", text)
    if ">" in text and "<" not in text and text.rstrip().endswith(">"):  # as pagers show that a line goes on
        text = f"{text.rstrip()[:-1]}{CUT}"
    if not text.isascii():
        text = _FOREIGN.sub(_familiar, text)
    return " ".join(text.translate(_SIGNS).split())


def samples_in(text: str) -> list[str]:
    """A plain text in one piece a sample: where a line's end was lost there are several. A sample begins with RAM, and
    with its date where it has one."""
    if text.count("RAM") < 2:
        return [text]
    places = [match.start() for match in _BEGINNING.finditer(text)][1:]
    return [text[begin:end].strip() for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


def _unescaped(match: re.Match[str]) -> str:
    if match["escape"]:
        return "\x1b"
    if match["x"]:
        code = bytes.fromhex("".join(re.split(r"\\+x", match["x"])))
        try:
            return code.decode()
        except UnicodeDecodeError:
            return code.decode("latin-1")
    return chr(int(match["u"], 16)) if match["u"] else " "


def _familiar(match: re.Match[str]) -> str:
    sign = match[0]
    if sign == "\u2212":  # a minus
        return "-"
    if unicodedata.category(sign) == "Cf":  # a mark of order or of width, which nobody sees
        return ""
    return sign if sign in (CUT, "\ufffd") or sign.isalnum() or not (sign.isprintable() or sign.isspace()) else " "
