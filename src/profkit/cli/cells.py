"""Text in a terminal's cells: cleaned, measured, truncated, wrapped. Nothing here knows what it says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

ELLIPSIS = "…"
# A blank that does not stand between a number and its unit.
_GAP = re.compile(r"(?<!\d) | (?!(?:[nµm]?s|[KMGT]i?B|B|%)(?:\W|$))")
_EIGHTHS = " ▏▎▍▌▋▊▉"
_ASCII = str.maketrans(dict(zip("·→×µ…–−±█▏▎▍▌▋▊▉", "->xu~--~#   ####", strict=True)))


def clean(text: str) -> str:
    """Untrusted text on one line, without what a terminal would obey: controls, escapes, changes of direction."""
    shown = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join("".join(shown).split())


def width(text: str) -> int:
    """Cells the text takes: two for wide characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def truncate(text: str, limit: int) -> str:
    """The text, or as much of its beginning as fits into `limit` cells with an ellipsis."""
    if width(text) <= limit:
        return text
    return text[: _fitting(text, limit - 1)].rstrip() + ELLIPSIS


def left(text: str, cells: int) -> str:
    """Exactly `cells` wide, the text at the left, truncated where it is longer."""
    text = truncate(text, cells)
    return text + " " * (cells - width(text))


def right(text: str, cells: int) -> str:
    """Exactly `cells` wide, the text at the right, truncated where it is longer."""
    text = truncate(text, cells)
    return " " * (cells - width(text)) + text


def wrap(text: str, limit: int) -> list[str]:
    """Lines of at most `limit` cells, broken between words but not between a number and its unit; a longer word
    is broken itself."""
    words = _GAP.split(" ".join(text.split()))
    return flow((part for word in words if word for part in _parts(word, limit)), " ", limit)


def flow(items: Iterable[str], separator: str, limit: int) -> list[str]:
    """Items joined into lines of at most `limit` cells, broken only between items where each fits a line."""
    lines: list[str] = []
    for item in items:
        if lines and width(lines[-1]) + width(separator) + width(item) <= limit:
            lines[-1] += separator + item
        elif width(item) <= limit:
            lines.append(item)
        else:
            lines += wrap(item, limit)
    return lines


def bar(share: float, cells: int) -> str:
    """A bar of `share` of `cells`, in eighths of a cell; the smallest share above zero is seen."""
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8) or int(share > 0)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + _EIGHTHS[rest].strip()


def ascii_only(text: str) -> str:
    """The same layout in ASCII, character by character; what ASCII lacks becomes a question mark."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def _parts(word: str, limit: int) -> Iterator[str]:
    """The word in pieces of at most `limit` cells."""
    while width(word) > limit:
        count = max(_fitting(word, limit), 1)
        yield word[:count]
        word = word[count:]
    yield word


def _fitting(text: str, limit: int) -> int:
    """How many characters from its beginning fit into `limit` cells."""
    used = 0
    for index, character in enumerate(text):
        used += _cells(character)
        if used > limit:
            return index
    return len(text)


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
