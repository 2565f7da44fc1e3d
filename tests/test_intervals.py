"""Sets of instants behave as sets: checked against sets of whole numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profkit.trace.intervals import Intervals

Pairs = list[tuple[int, int]]
pairs = st.lists(st.tuples(st.integers(-20, 60), st.integers(-3, 20)).map(lambda p: (p[0], p[0] + p[1])), max_size=20)


def intervals(given_pairs: Pairs) -> Intervals:
    start, end = (np.array([pair[i] for pair in given_pairs], np.int64) for i in range(2))
    return Intervals.union(start, end)


def instants(given_pairs: Pairs) -> set[int]:
    return {i for start, end in given_pairs for i in range(start, end)}


def held(found: Intervals) -> set[int]:
    return instants(list(zip(found.start.tolist(), found.end.tolist(), strict=True)))


@given(pairs)
def test_a_union_holds_what_any_part_holds_in_disjoint_sorted_intervals(some: Pairs) -> None:
    found = intervals(some)
    assert held(found) == instants(some)
    assert (found.start[1:] > found.end[:-1]).all()
    assert found.total == len(instants(some))


@given(pairs, pairs)
def test_or_joins(one: Pairs, other: Pairs) -> None:
    assert held(intervals(one) | intervals(other)) == instants(one) | instants(other)


@given(pairs, st.integers(-30, 90), st.integers(0, 50))
def test_covered_counts_the_instants_inside(some: Pairs, begin: int, length: int) -> None:
    covered = intervals(some).covered(np.array([begin]), np.array([begin + length]))
    assert covered.tolist() == [len(instants(some) & set(range(begin, begin + length)))]
