"""The logger "et", on which the library says what it does."""

from __future__ import annotations

import logging


def show_log() -> None:
    """Print what the library says to standard error, unless the program has set up logging itself.

    Touches the logger "et" alone, and keeps a level that was set on it. Calling it again changes nothing.
    """
    logger = logging.getLogger("et")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
