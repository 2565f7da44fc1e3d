"""The distance of two ranks' clocks, over a store that is a dictionary: threads stand for the ranks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from queue import Empty, Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit import rankclock
from profkit.capture import read_capture, run_info
from profkit.rankclock import NO_LONGER, UNANSWERED, RankClock, Store, offset_at, quickest_exchange
from profkit.recorder import Recorder
from profkit.records import ClockOffset, WindowOpened

LIMIT_S = 30  # for what takes milliseconds; only a failure waits longer
SHIFT_NS = 5_000_000


class Dictionary:
    """A job's store."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._changed = threading.Condition()

    def set(self, key: str, value: str, /) -> None:
        with self._changed:
            self.values[key] = value
            self._changed.notify_all()

    def get(self, key: str, /) -> bytes:
        with self._changed:
            return self.values[key].encode()

    def add(self, key: str, amount: int, /) -> int:
        with self._changed:
            self.values[key] = str(int(self.values.get(key, "0")) + amount)
            return int(self.values[key])

    def check(self, keys: list[str], /) -> bool:
        with self._changed:
            return all(key in self.values for key in keys)

    def wait(self, keys: list[str], timeout: timedelta, /) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: all(key in self.values for key in keys), timeout.total_seconds()):
                raise RuntimeError("wait timeout")

    def delete_key(self, key: str, /) -> bool:
        with self._changed:
            return self.values.pop(key, None) is not None


class Rank:
    """A rank whose clock is `shift_ns` ahead, and what its thread told."""

    def __init__(
        self,
        rank: int,
        connect: Callable[[], Store],
        shift_ns: int = 0,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.told: Queue[ClockOffset | str] = Queue()
        self.clock = RankClock(rank, 3, connect, lambda: time.perf_counter_ns() + shift_ns, self.told.put, is_over)

    def next(self) -> ClockOffset | str:
        return self.told.get(timeout=LIMIT_S)

    def rest(self) -> list[ClockOffset | str]:
        told = []
        while True:
            try:
                told.append(self.told.get_nowait())
            except Empty:
                return told


@contextmanager
def job(*ranks: Rank) -> Iterator[tuple[Rank, ...]]:
    try:
        yield ranks
    finally:
        for rank in ranks:
            rank.clock.stop()


def assert_is(measured: ClockOffset | str, shift_ns: int) -> None:
    assert isinstance(measured, ClockOffset)
    assert abs(measured.offset_ns - shift_ns) <= measured.uncertainty_ns


@pytest.mark.parametrize("shift_ns", [0, SHIFT_NS, -SHIFT_NS])
def test_the_offset_is_what_leads_to_the_time_of_rank_0(shift_ns: int) -> None:
    store = Dictionary()
    with job(Rank(0, lambda: store), Rank(1, lambda: store, shift_ns)) as (first, second):
        itself = first.next()
        assert isinstance(itself, ClockOffset) and (itself.offset_ns, itself.uncertainty_ns) == (0, 0)
        measured = second.next()
        assert_is(measured, -shift_ns)
        assert isinstance(measured, ClockOffset) and measured.uncertainty_ns < SHIFT_NS


def test_every_rank_has_its_turn_and_nothing_stays_in_the_store() -> None:
    store = Dictionary()
    with job(*(Rank(rank, lambda: store, rank * SHIFT_NS) for rank in range(4))) as ranks:
        for number, rank in enumerate(ranks):
            assert_is(rank.next(), -number * SHIFT_NS)
    assert len(store.values) == 2, store.values  # whose turn it is, and how many numbers were drawn


def test_it_is_measured_again_when_a_window_opens() -> None:
    store = Dictionary()
    with job(Rank(0, lambda: store), Rank(1, lambda: store, SHIFT_NS)) as (_, second):
        earlier = second.next()
        second.clock.soon()
        later = second.next()
    assert isinstance(earlier, ClockOffset) and isinstance(later, ClockOffset)
    assert later.time_ns > earlier.time_ns
    assert_is(later, -SHIFT_NS)


def test_without_rank_0_nothing_hangs_and_it_is_said() -> None:
    store = Dictionary()
    with job(Rank(1, lambda: store)) as (alone,):
        pass
    assert alone.rest() == [UNANSWERED]


def test_where_rank_0_is_silent_for_too_long_it_is_said_while_the_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rankclock, "PATIENCE_S", 0.05)
    monkeypatch.setattr(rankclock, "EVERY_S_PER_RANK", 0.0)
    store = Dictionary()
    with job(Rank(1, lambda: store)) as (alone,):
        assert alone.next() == UNANSWERED


def test_where_rank_0_leaves_before_the_others_what_was_measured_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rankclock, "PATIENCE_S", 1.0)
    monkeypatch.setattr(rankclock, "EVERY_S_PER_RANK", 0.0)
    store = Dictionary()
    with job(Rank(0, lambda: store), Rank(1, lambda: store)) as (first, second):
        assert isinstance(second.next(), ClockOffset)
        first.clock.stop()
        second.clock.soon()
        assert second.next() == NO_LONGER


@pytest.mark.parametrize("exchanges", [0, 3])
def test_a_rank_that_dies_while_it_is_served_keeps_nobody_else_from_it(
    exchanges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rankclock, "ANSWER", timedelta(seconds=0.1))
    store = Dictionary()
    with job(Rank(0, lambda: store)) as (first,):
        assert isinstance(first.next(), ClockOffset)
        session, _, _ = store.values["turn"].partition("/")
        dying = f"{session}/{store.add(f'{session}/numbers', 1)}"
        for number in range(exchanges):
            store.set(f"{dying}/asked/{number}", "")
        with job(Rank(2, lambda: store, SHIFT_NS)) as (other,):
            assert_is(other.next(), -SHIFT_NS)


def test_after_a_new_beginning_in_the_same_store_the_new_rank_0_answers() -> None:
    store = Dictionary()
    for shift_ns in (SHIFT_NS, 2 * SHIFT_NS):
        with job(Rank(0, lambda: store), Rank(1, lambda: store, shift_ns)) as (first, second):
            assert isinstance(first.next(), ClockOffset)
            assert_is(second.next(), -shift_ns)


def test_a_connection_that_fails_is_said_once() -> None:
    def fail() -> Store:
        raise RuntimeError("no route to host")

    with job(Rank(1, fail)) as (cut_off,):
        assert cut_off.next() == "the clocks of the ranks are not compared from here on: no route to host"
        cut_off.clock.soon()
    assert cut_off.rest() == []


def test_a_store_that_goes_away_with_its_group_is_nothing_to_speak_of() -> None:
    over = threading.Event()

    class Closing(Dictionary):
        def add(self, key: str, amount: int, /) -> int:
            over.set()
            raise RuntimeError("connection reset by peer")

    store = Closing()
    with job(Rank(0, lambda: store, is_over=over.is_set)) as (first,):
        assert isinstance(first.next(), ClockOffset)
        assert over.wait(LIMIT_S)
    assert first.rest() == []


class Network:
    """A store in no time but what its messages take: rank 0, `shift_ns` behind, answers at once."""

    def __init__(self, delays: Sequence[tuple[int, int]], shift_ns: int) -> None:
        self.now_ns = 0
        self._delays = iter(delays)
        self._shift_ns = shift_ns
        self._answer = 0

    def clock(self) -> int:
        return self.now_ns

    def set(self, key: str, value: str, /) -> None:
        there, self._back = next(self._delays)
        self.now_ns += there
        self._answer = self.now_ns - self._shift_ns

    def wait(self, keys: list[str], timeout: timedelta, /) -> None:
        self.now_ns += self._back

    def get(self, key: str, /) -> bytes:
        return str(self._answer).encode()

    def add(self, key: str, amount: int, /) -> int:
        raise AssertionError("not part of an exchange")

    def check(self, keys: list[str], /) -> bool:
        raise AssertionError("not part of an exchange")

    def delete_key(self, key: str, /) -> bool:
        return True


DELAY = st.integers(0, 10**9)
DELAYS = st.lists(st.tuples(DELAY, DELAY), min_size=rankclock.EXCHANGES, max_size=rankclock.EXCHANGES)


@given(DELAYS, st.integers(-(10**12), 10**12))
def test_the_true_offset_is_within_the_uncertainty_whichever_way_took_longer(
    delays: list[tuple[int, int]], shift_ns: int
) -> None:
    network = Network(delays, shift_ns)
    measured = quickest_exchange(network, "", network.clock)
    assert_is(measured, -shift_ns)
    assert measured.uncertainty_ns == min(there + back + 1 for there, back in delays) // 2


OFFSETS = st.lists(
    st.builds(ClockOffset, st.integers(0, 10**15), st.integers(-(10**12), 10**12), st.integers(0, 10**9)),
    min_size=1,
    max_size=6,
    unique_by=lambda measured: measured.time_ns,
).map(lambda measured: sorted(measured, key=lambda one: one.time_ns))


@given(OFFSETS, st.integers(0, 10**15))
def test_between_two_measurements_the_offset_lies_between_theirs(measured: list[ClockOffset], time_ns: int) -> None:
    found = offset_at(measured, time_ns)
    earlier = [one for one in measured if one.time_ns <= time_ns] or measured[:1]
    later = [one for one in measured if one.time_ns > time_ns] or measured[-1:]
    sides = (earlier[-1].offset_ns, later[0].offset_ns)
    assert found is not None
    assert min(sides) <= found.offset_ns <= max(sides)


@given(OFFSETS)
def test_at_a_measurement_the_offset_is_what_was_measured(measured: list[ClockOffset]) -> None:
    for one in measured:
        found = offset_at(measured, one.time_ns)
        assert found is not None and found.offset_ns == one.offset_ns


def test_a_drift_is_followed() -> None:
    drifting = [ClockOffset(0, 0, 10), ClockOffset(1_000, 100, 30)]
    assert offset_at(drifting, 250) == ClockOffset(250, 25, 30)
    assert offset_at([], 250) is None


@pytest.mark.parametrize(
    ("windows", "offset_ns"), [([], 50.0), ([250], 25.0), ([200, 400], 30.0), ([5_000], 100.0)], ids=str
)
def test_a_run_states_the_offset_of_the_time_its_windows_were_recorded(
    windows: list[int], offset_ns: float, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path / "here-1-7-0123abcd.pkrec", rank=1)
    for record in (ClockOffset(0, 0, 10), ClockOffset(1_000, 100, 30)):
        recorder.append(record)
    for number, time_ns in enumerate(windows):
        recorder.append(WindowOpened("pytorch", number, 5, time_ns))
    recorder.close()
    info = run_info(read_capture(tmp_path, 1), alive=False)
    assert (info.clock_offset_ns, info.clock_uncertainty_ns) == (offset_ns, 30)


def test_a_run_without_measurements_states_no_uncertainty(tmp_path: Path) -> None:
    info = run_info(read_capture(tmp_path, 1), alive=False)
    assert (info.clock_offset_ns, info.clock_uncertainty_ns) == (0.0, None)
