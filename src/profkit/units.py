"""Numbers in words: three significant digits, the unit always beside them."""

from __future__ import annotations

_TIMES = ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_SIZES = ((1, "B"), (1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"), (1 << 40, "TiB"))


def duration(time_ns: float) -> str:
    """Nanoseconds as `33.2 ms`."""
    return "0 ms" if time_ns == 0 else _scaled(time_ns, _TIMES)


def size(count: float) -> str:
    """Bytes as `2.52 GiB`."""
    return _scaled(count, _SIZES)


def percent(share: float) -> str:
    """A share of one as `43 %`, `4.0 %` or `0.02 %`."""
    if 0 < share < 0.0001:
        return "< 0.01 %"
    decimals = 0 if share >= 0.0995 or share == 0 else 1 if share >= 0.00995 else 2
    return f"{100 * share:.{decimals}f} %"


def ratio(value: float) -> str:
    """A factor as `1.7×`."""
    return f"{value:.1f}×" if value < 9.95 else f"{value:.0f}×"


def counted(count: int, noun: str) -> str:
    """`1 step`, `1,200 steps`, `2 batches`."""
    plural = f"{noun}es" if noun.endswith(("s", "ch")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """`value` in the largest unit that leaves at least one before the point."""
    scale, unit = next(((scale, unit) for scale, unit in units if abs(value) < 999.5 * scale), units[-1])
    return f"{_three_digits(value / scale)} {unit}"


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    decimals = 0 if magnitude >= 99.95 or value == int(value) else 1 if magnitude >= 9.995 else 2
    return f"{value:,.{decimals}f}"
