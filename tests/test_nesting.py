"""Depth, parents and self time are right for any spans, and no span is left outliving the one it began in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.trace.nesting import SNAP_NS, Ints, Nested, nest

MS = 1_000_000

Row = tuple[int, int, int]  # track, start, end


def nested(rows: list[Row], yields: list[bool] | None = None) -> Nested:
    track, start, end = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    return nest(track, start, end, np.array(yields, np.bool_) if yields is not None else None)


def by_stack(track: Ints, start: Ints, end: Ints) -> tuple[list[int], list[int]]:
    """Depth and parent by the obvious way, one span after the other."""
    depth, parent, stack = [], [], list[int]()
    for row in range(len(start)):
        while stack and (track[stack[-1]] != track[row] or end[stack[-1]] <= start[row]):
            stack.pop()
        depth.append(len(stack))
        parent.append(stack[-1] if stack else -1)
        if end[row] > start[row]:
            stack.append(row)
    return depth, parent


rows_of_spans = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 25)).map(lambda r: (r[0], r[1], r[1] + r[2])),
    max_size=60,
)


@given(rows_of_spans)
def test_whatever_comes_in_nothing_outlives_its_parent(rows: list[Row]) -> None:
    found = nested([(t, s * MS, e * MS) for t, s, e in rows])
    inside = found.parent >= 0
    assert (found.end[inside] <= found.end[found.parent[inside]]).all()
    assert (found.start[inside] >= found.start[found.parent[inside]]).all()
    assert (found.track[inside] == found.track[found.parent[inside]]).all()


@given(rows_of_spans)
def test_depth_and_parent_equal_those_of_a_stack(rows: list[Row]) -> None:
    found = nested([(t, s * MS, e * MS) for t, s, e in rows])
    depth, parent = by_stack(found.track, found.start, found.end)
    assert found.depth.tolist() == depth
    assert found.parent.tolist() == parent


@given(rows_of_spans)
def test_self_times_of_a_track_add_up_to_its_outermost_spans(rows: list[Row]) -> None:
    found = nested([(t, s * MS, e * MS) for t, s, e in rows])
    for track in np.unique(found.track):
        on_track = found.track == track
        outermost = on_track & (found.parent < 0)
        assert found.self_time[on_track].sum() == (found.end - found.start)[outermost].sum()


@given(rows_of_spans)
def test_rows_are_sorted_by_track_start_and_falling_duration(rows: list[Row]) -> None:
    found = nested([(t, s * MS, e * MS) for t, s, e in rows])
    keys = list(zip(found.track.tolist(), found.start.tolist(), (found.start - found.end).tolist(), strict=True))
    assert keys == sorted(keys)


@given(rows_of_spans)
def test_descendants_are_the_rows_up_to_the_subtree_end(rows: list[Row]) -> None:
    found = nested([(t, s * MS, e * MS) for t, s, e in rows])
    for row, stop in enumerate(found.subtree_end.tolist()):
        descendants = [r for r in range(len(found.parent)) if has_ancestor(found.parent.tolist(), r, row)]
        positive = [r for r in descendants if found.end[r] > found.start[r]]
        assert all(row < r < stop for r in positive)


def has_ancestor(parent: list[int], row: int, ancestor: int) -> bool:
    while (row := parent[row]) >= 0:
        if row == ancestor:
            return True
    return False


def test_spans_that_nest_are_left_alone() -> None:
    found = nested([(0, 0, 10), (0, 2, 5), (0, 2, 3), (0, 5, 9), (1, 1, 4)])
    assert (found.clipped, found.moved) == (0, 0)
    assert found.depth.tolist() == [0, 1, 2, 1, 0]
    assert found.parent.tolist() == [-1, 0, 1, 0, -1]
    assert found.self_time.tolist() == [3, 2, 1, 4, 3]


def test_an_overlap_within_the_resolution_of_the_file_is_clipped_off() -> None:
    found = nested([(0, 0, 10_000), (0, 10_000 - SNAP_NS, 30_000)])
    assert (found.clipped, found.moved) == (1, 0)
    assert found.end.tolist() == [10_000 - SNAP_NS, 30_000]


def test_a_real_overlap_moves_the_later_span_to_a_lane_of_its_own() -> None:
    found = nested([(0, 0, 10 * MS), (0, 5 * MS, 15 * MS)])
    assert (found.clipped, found.moved) == (0, 1)
    assert found.lanes == {1: 0}
    assert (found.end - found.start).tolist() == [10 * MS, 10 * MS]


def test_a_frame_gives_way_to_the_range_that_began_in_it() -> None:
    found = nested([(0, 0, 8 * MS), (0, 3 * MS, 20 * MS)], yields=[True, False])
    assert found.start.tolist() == [0, 3 * MS]
    assert found.end.tolist() == [3 * MS, 20 * MS]


def test_a_frame_that_outlives_the_range_it_began_in_ends_with_it_as_do_the_frames_inside() -> None:
    found = nested([(0, 0, 10 * MS), (0, 8 * MS, 14 * MS), (0, 9 * MS, 13 * MS)], yields=[False, True, True])
    assert found.end.tolist() == [10 * MS, 10 * MS, 10 * MS]
    assert found.depth.tolist() == [0, 1, 2]
    assert found.clipped == 1


def test_no_span_at_all_is_fine() -> None:
    found = nested([])
    assert found.order.tolist() == []
    assert found.self_time.tolist() == []


@pytest.mark.parametrize("late", [2**62, 2**60])
def test_absurd_times_do_not_overflow(late: int) -> None:
    found = nested([(0, 0, 5), (900, late, late + 5), (900, late + 1, late + 2)])
    assert found.depth.tolist() == [0, 0, 1]
