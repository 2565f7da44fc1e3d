"""Workers become tracks: fetches that overlap the window, with their parts, linked to the steps that consumed them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from profkit.trace.model import Loader, LoaderWorker, Trace
from profkit.trace.schema import BATCHES
from profkit.trace.workers import with_workers
from tests.traces import step, traced

US = 1_000


def trace(tmp_path: Path) -> Trace:
    """Two steps of 100 µs, from 1,000 µs on."""
    return traced(tmp_path, [step(4, 1_000, 100), step(5, 1_100, 100)])


def fetched(found: Trace, *rows: tuple[int, int, int, int, int | None]) -> pl.DataFrame:
    """Batches: index, worker, start and end in µs since the trace began, step."""
    begin = found.info.start_ns
    return pl.DataFrame(
        [
            {
                "loader": 0,
                "index": index,
                "worker": worker,
                "fetch_start_ns": begin + start * US,
                "fetch_end_ns": begin + end * US,
                "item_ns": (end - start) * US * 3 // 4,
                "collate_ns": (end - start) * US // 4,
                "step": number,
            }
            for index, worker, start, end, number in rows
        ],
        schema=BATCHES,
    )


def test_each_worker_is_a_track_of_its_fetches_and_their_parts(tmp_path: Path) -> None:
    before = trace(tmp_path)
    batches = fetched(before, (7, 0, 10, 50, 5), (8, 1, 20, 60, 6), (9, 0, 60, 100, 7))
    loaders = {"0": Loader("DataLoader", workers=[_worker(0, 41), _worker(1, 42)])}
    after = with_workers(before, batches, loaders)
    tracks = after.tracks.filter(pl.col("kind") == "loader_worker")
    assert tracks.select("name", "pid").rows() == [("loader worker 0", 41), ("loader worker 1", 42)]
    spans = after.spans.filter(pl.col("kind") == "data_work")
    assert spans.filter(pl.col("track") == tracks["id"][0]).select("name", "depth").rows() == [
        *(("fetch batch 7", 0), ("item", 1), ("collate", 1)),
        *(("fetch batch 9", 0), ("item", 1), ("collate", 1)),
    ]
    assert after.spans["id"].to_list() == list(range(after.spans.height))
    assert spans.group_by("parent").agg(pl.sum("duration_ns")).drop_nulls()["duration_ns"].to_list() == [40 * US] * 3


def test_a_fetch_is_linked_to_the_step_that_consumed_it_where_that_was_recorded(tmp_path: Path) -> None:
    before = trace(tmp_path)
    after = with_workers(before, fetched(before, (7, 0, 10, 50, 5), (8, 0, 60, 90, 6), (9, 0, 95, 99, None)), {})
    names = after.spans["name"]
    links = [
        (names[a], names[b]) for a, b in after.links.filter(pl.col("kind") == "batch").select("from_id", "to_id").rows()
    ]
    assert len(links) == 1 and links[0][0] == "fetch batch 7" and links[0][1].endswith("5")


def test_fetches_outside_the_window_and_those_of_the_training_process_are_left_out(tmp_path: Path) -> None:
    before = trace(tmp_path)
    batches = fetched(before, (1, 0, -90, -10, 2), (2, 0, 900, 950, 9))
    alone = fetched(before, (3, 0, 10, 50, 5)).with_columns(pl.lit(None, pl.Int32).alias("worker"))
    assert with_workers(before, pl.concat([batches, alone]), {}) is before


def _worker(number: int, pid: int) -> LoaderWorker:
    return LoaderWorker(worker=number, pid=pid, loop=0, asked_ns=0, process_ns=0, init_ns=0, dataset_ns=0)
