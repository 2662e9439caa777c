"""A hook of mkdocs: what a page links to outside docs/ is not part of the site, so there the link is plain text.

On GitHub such a link leads to the file. The site shows the same file right below it.
"""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)\s]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _OUTSIDE.sub(r"\1", markdown)
