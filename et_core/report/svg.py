from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from et_core.report.data import clean

# In the small letters of the page, of the widest of its fonts: text in another has room to spare.
_CHARACTER, _SLIM, _BROAD, _FULL = 7.7, 4.8, 11.0, 12.5


@dataclass(frozen=True)
class Drawing:
    """Inline SVG, which takes its colours from the page, and what a reader must know to trust it."""

    svg: Markup
    remarks: tuple[str, ...] = ()


def picture(parts: Sequence[Markup], *, size: tuple[int, int], label: str) -> Markup:
    """A drawing as wide and high as *size*; *label* is what a screen reader says instead of it."""
    width, height = size
    # The page needs the width to keep the letters at one size however far it scales the drawing.
    scale = {"viewBox": f"0 0 {width} {height}", "style": f"--w:{width}px"}
    return tag("svg", *parts, **scale, role="img", aria_label=label)


def tag(name: str, *content: str, **attributes: object) -> Markup:
    """An element; strings are escaped, Markup is not. Numbers are rounded to a tenth of a unit."""
    written = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), short(value) if isinstance(value, float) else value
        )
        for key, value in attributes.items()
    )
    inner = Markup("").join(item if isinstance(item, Markup) else escape(clean(item)) for item in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)


def short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def text_width(text: str) -> float:
    """About how many pixels *text* takes in the small letters of a drawing, at most."""
    return sum(_character(letter) for letter in text)


def shortened(text: str, *, limit: int) -> str:
    """*text* on one line, with an ellipsis where it has more than *limit* characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _character(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return _FULL
    if letter in " ijltfr.,:;'|!()[]-":
        return _SLIM
    return _BROAD if letter.isupper() or letter in "mwMW@%—…" else _CHARACTER
