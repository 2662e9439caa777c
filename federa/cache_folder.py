"""Where what can be fetched again is kept for the user."""

from __future__ import annotations

from pathlib import Path

from platformdirs.unix import Unix

from federa.errors import BadInput


def cache_folder(setting: str) -> Path:
    """$XDG_CACHE_HOME/federa, or ~/.cache/federa where that is unset or relative. Raises BadInput for a user without a
    home, which names the setting that moves the folder."""
    try:
        return Unix("federa").user_cache_path
    except RuntimeError:
        raise BadInput(f"{setting}: must name a folder for base models: this user has no home") from None
