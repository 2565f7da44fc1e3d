"""Ranks beside each other: one answer whatever the order, one clock, and waiting that adds up."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.analysis.arrivals import meeting
from profkit.analysis.rankpart import RankPart, rank_part
from profkit.analysis.ranks import compare
from profkit.analysis.report import Ranks
from profkit.analysis.summary import report
from profkit.cli.text import verdict
from profkit.trace.load import load
from tests.corpus import CORPUS, needs_corpus
from tests.rank_parts import MS, calls_table, part, training

GLOO = CORPUS / "_generated-torch-2.13.0-cpu" / "ddp_gloo_2rank"
DLRM = CORPUS / "facebookresearch+param" / "dlrm_kineto_unpacked"
HTA_PAIR = CORPUS / "facebookresearch+HolisticTraceAnalysis/tests/data/trace_filter"


def compared(folder: Path) -> Ranks:
    run = load(folder)
    return compare(rank_part(run.of_rank(rank)) for rank in run.ranks)


def test_the_answer_does_not_depend_on_order_nor_on_the_way_the_parts_came() -> None:
    parts = training(9, late_ms={4: 20}, jitter_ms=2, offsets_ns={4: 5 * MS}, hosts=[str(i // 3) for i in range(9)])
    whole = compare(parts)
    shuffled = random.Random(3).sample(parts, len(parts))
    assert compare(shuffled) == whole
    packed = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=RankPart) for one in shuffled]
    assert compare(iter(packed)) == whole
    assert whole.stragglers


@pytest.mark.parametrize("parts", [[], [*training(2), *training(2)]], ids=["none", "twice"])
def test_each_rank_has_one_part(parts: list[RankPart]) -> None:
    with pytest.raises(ValueError, match="each rank has one part"):
        compare(parts)


def test_waiting_is_for_the_last_to_arrive_and_the_rest_is_transfer() -> None:
    arrivals = (0.0, 10.0, 30.0)
    calls = [calls_table([("all_reduce", 0, -1, at, 40.0)]) for at in arrivals]
    found = compare(part(rank, table, 3, 1, times_ms={"compute": 1000}) for rank, table in enumerate(calls))
    assert [row.waiting_ns for row in found.rows] == [30 * MS, 20 * MS, 0]
    assert [row.transfer_ns for row in found.rows] == [10 * MS] * 3
    assert [row.late_ns for row in found.rows] == [0, 10 * MS, 30 * MS]
    assert [row.last_share for row in found.rows] == [0, 0, 1]
    (row,) = found.collectives
    assert (row.name, row.calls, row.ranks, row.bytes) == ("all_reduce", 1, 3, 4096)
    assert (row.transfer_ns, row.skew_ns) == (10 * MS, 30 * MS)
    assert row.waiting_ns == pytest.approx(50 * MS / 3)


def test_whoever_has_not_arrived_bears_an_equal_part_of_what_the_others_wait() -> None:
    calls = [calls_table([("all_reduce", 0, -1, at, 40.0)]) for at in (0.0, 10.0, 30.0)]
    arrivals = meeting([part(rank, table, 3, 1) for rank, table in enumerate(calls)]).arrivals
    # Until 10 ms two are missing and one waits; until 30 ms one is missing and two wait. The mean over two others.
    assert arrivals.cost.tolist() == [0, 5 * MS / 2, (5 + 40) * MS / 2]


def test_what_is_waited_in_two_calls_at_once_counts_once() -> None:
    early = calls_table([("all_reduce", 0, -1, 0.0, 32.0), ("broadcast", 0, -1, 1.0, 33.0)])
    late = calls_table([("all_reduce", 0, -1, 30.0, 32.0), ("broadcast", 0, -1, 31.0, 33.0)])
    rows = compare(part(rank, table, 2, 1) for rank, table in enumerate((early, late))).rows
    assert rows[0].waiting_ns == 31 * MS
    assert [row.waiting_ns + row.transfer_ns for row in rows] == [33 * MS, 3 * MS]


def test_the_root_of_a_broadcast_may_leave_before_the_others_come() -> None:
    root = calls_table([("broadcast", 0, -1, 0.0, 2.0)])
    other = calls_table([("broadcast", 0, -1, 30.0, 31.0)])
    rows = compare(part(rank, table, 2, 1) for rank, table in enumerate((root, other))).rows
    assert [row.waiting_ns for row in rows] == [2 * MS, 0]


def test_a_symmetric_call_that_ends_before_another_begins_is_another_call() -> None:
    calls = [calls_table([("all_reduce", 0, -1, at, at + 2)]) for at in (0.0, 30.0)]
    found = compare(part(rank, table, 2, 1) for rank, table in enumerate(calls))
    assert not found.collectives
    assert "2 collective calls could not be matched" in found.notes[1]


def test_where_ranks_make_different_numbers_of_calls_in_a_step_none_is_matched() -> None:
    one = calls_table([("all_reduce", 0, -1, 0.0, 2.0), ("all_reduce", 1, -1, 50.0, 52.0)])
    two = calls_table(
        [("all_reduce", 0, -1, 0.0, 2.0), ("all_reduce", 0, -2, 9.0, 12.0), *[("all_reduce", 1, -1, 50.0, 52.0)]]
    )
    found = compare(part(rank, table, 2, 2) for rank, table in enumerate((one, two)))
    assert found.collectives[0].calls == 1
    assert found.notes == ["3 collective calls could not be matched with those of other ranks."]


def test_a_sequence_number_matches_calls_of_different_steps() -> None:
    calls = [calls_table([("all_reduce", step, 41, 0.0, 2.0)]) for step in (0, 1)]
    assert compare(part(rank, table, 2, 1) for rank, table in enumerate(calls)).collectives[0].calls == 1


@given(st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 9))
def test_all_costs_are_all_waiting(arrivals: list[list[int]], transfer: int) -> None:
    calls: list[list[tuple[str, int, int, float, float]]] = [[] for _ in range(4)]
    now = 0.0
    for step, row in enumerate(arrivals):
        end = now + max(row) + transfer
        for rank, at in enumerate(row):
            calls[rank].append(("all_gather", step, -1, now + at, end))
        now = end
    met = meeting([part(rank, calls_table(own), 4, len(arrivals)) for rank, own in enumerate(calls)]).arrivals
    assert met.cost.sum() * 3 == pytest.approx(met.waiting.sum())
    assert (met.waiting >= 0).all()
    assert (met.transfer >= 0).all()
    assert met.waiting.sum() == sum(max(row) - at for row in arrivals for at in row) * MS


class TestClocks:
    def test_ranks_of_one_host_share_its_clock(self) -> None:
        rows = compare(training(3)).rows
        assert {(row.clock_source, row.clock_offset_ns, row.clock_uncertainty_ns) for row in rows} == {
            ("same clock", 0, 0)
        }

    def test_other_hosts_are_aligned_by_the_ends_of_collectives(self) -> None:
        planted = {2: 7 * MS, 3: 7 * MS}
        parts = training(4, late_ms={3: 20}, offsets_ns=planted, hosts=["a", "a", "b", "b"])
        found = compare(parts)
        assert [row.clock_source for row in found.rows] == ["same clock", "same clock", "collectives", "collectives"]
        assert [row.clock_offset_ns for row in found.rows] == pytest.approx([0, 0, 7 * MS, 7 * MS], abs=1_000)
        assert [one.rank for one in found.stragglers] == [3]
        assert found.stragglers == compare(training(4, late_ms={3: 20})).stragglers

    @pytest.mark.parametrize("seed", range(5))
    def test_the_offset_lies_within_its_stated_uncertainty(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        calls = []
        for offset in (0, 3 * MS):
            ends = [10 * step + 5 + float(chance.normal(0, 0.05)) for step in range(20)]
            calls.append(
                calls_table(
                    [("all_reduce", step, -1, 10.0 * step, end) for step, end in enumerate(ends)], offset_ns=offset
                )
            )
        row = compare(part(rank, table, 2, 20, host=str(rank)) for rank, table in enumerate(calls)).rows[1]
        assert row.clock_uncertainty_ns is not None
        assert abs(row.clock_offset_ns - 3 * MS) <= row.clock_uncertainty_ns < 0.3 * MS

    def test_a_clock_is_found_through_a_rank_between(self) -> None:
        def table(groups: list[str], offset_ns: int) -> RankPart:
            calls = [("all_reduce", step, -1, 10.0 * step, 10.0 * step + 5) for step in range(4)]
            tables = [calls_table(calls, group=group, offset_ns=offset_ns) for group in groups]
            return part(
                offset_ns // MS,
                tables[0].vstack(tables[-1]) if len(tables) > 1 else tables[0],
                3,
                4,
                host=str(offset_ns),
            )

        rows = compare([table(["left"], 0), table(["left", "right"], MS), table(["right"], 2 * MS)]).rows
        assert [row.clock_offset_ns for row in rows] == pytest.approx([0, MS, 2 * MS], abs=1_000)

    def test_a_measured_offset_goes_before_everything(self) -> None:
        parts = training(2, offsets_ns={1: 4 * MS})
        parts[1] = msgspec.structs.replace(parts[1], clock_offset_ns=4.0 * MS, clock_uncertainty_ns=9_000.0)
        row = compare(parts).rows[1]
        assert (row.clock_source, row.clock_offset_ns, row.clock_uncertainty_ns) == ("measured", 4 * MS, 9_000)

    def test_without_enough_collectives_a_clock_is_not_known_and_nothing_is_compared(self) -> None:
        found = compare(training(2, steps=2, hosts=["a", "b"], late_ms={1: 30}))
        assert found.rows[1].clock_source == "none"
        assert found.clock_uncertainty_ns is None
        assert not found.stragglers
        assert "The clocks of ranks 1 are not known" in " ".join(found.notes)


def test_a_missing_rank_is_said() -> None:
    found = compare(training(4, recorded=[0, 1, 3]))
    assert found.missing == [2]
    assert found.world_size == 4
    assert found.notes[0].startswith("1 of 4 ranks were not recorded")


def test_ranks_without_collectives_are_compared_by_their_steps_alone() -> None:
    found = compare(part(rank, calls_table([]), 2, 3, times_ms={"compute": 10.0 * (rank + 1)}) for rank in (0, 1))
    assert found.imbalance == pytest.approx(20 / 15 - 1)
    assert found.skew_ns is None
    assert not found.stragglers
    assert found.step_time_ns is not None
    assert found.step_time_ns.mean == 15 * MS
    assert "No collective was recorded" in found.notes[0]


@needs_corpus
def test_a_slow_loader_of_rank_1_is_seen_in_what_rank_0_waits() -> None:
    found = compared(GLOO)
    first, second = found.rows
    assert (first.waiting_ns / first.step_ns, second.wait_ns / second.step_ns) == pytest.approx((0.86, 0.87), abs=0.01)
    assert second.waiting_ns < 0.01 * second.step_ns
    assert (first.collectives, second.collectives) == (3, 3)
    assert {row.name for row in found.collectives} == {"broadcast", "all_reduce"}
    assert first.overlap == pytest.approx(0.002, abs=0.001)
    assert second.overlap == pytest.approx(0.09, abs=0.01)


@needs_corpus
def test_eight_ranks_of_dlrm_are_late_as_hta_finds() -> None:
    found = compared(DLRM)
    latest = sorted(found.rows, key=lambda row: -row.late_ns)
    assert [row.rank for row in latest[:3]] == [7, 2, 6]
    assert not found.missing
    assert all(abs(row.clock_offset_ns) < 10_000 for row in found.rows)  # they shared a machine, which the files hide
    kernels = sum(row.breakdown_ns["compute"] + row.communication_ns for row in found.rows)
    assert sum(row.communication_ns for row in found.rows) / kernels == pytest.approx(0.84, abs=0.01)


@needs_corpus
def test_ranks_that_were_not_recorded_are_said() -> None:
    found = compared(HTA_PAIR)
    assert found.missing == list(range(2, 128))
    assert not found.stragglers


@needs_corpus
@pytest.mark.parametrize("width", [60, 100])
def test_the_terminal_shows_a_row_per_rank(width: int) -> None:
    run = load(GLOO)
    text = verdict(report(run, compared(GLOO)), None, width, colour=False)
    block = text.split("Ranks, per step: 2 of 2 recorded\n")[1].splitlines()[:3]
    assert [line.split()[0] for line in block] == ["rank", "0", "1"]
    assert block[2].split()[1] == "late"
    assert "49.45" in block[1]
    assert max(map(len, text.splitlines())) <= width


@needs_corpus
def test_of_many_ranks_the_terminal_shows_the_telling_ones() -> None:
    whole = report(load(GLOO), compare(training(100, late_ms={31: 20, 77: 25}, recorded=[*range(90)])))
    text = verdict(whole, None, 100, colour=False)
    block = text.split("90 of 100 recorded, 8 shown\n")[1].splitlines()[:10]
    assert [line.split()[0] for line in block if " late" in line][1:] == ["31", "77"]
    assert "not recorded: 90, 91, 92, 93, 94, 95, 96, 97, …" in text
