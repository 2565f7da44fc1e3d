"""Of a pipeline's stages the saturated one is named, with what made it slow and what removing that gains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import profkit
from profkit.analysis.pipelines import (
    CAUSES,
    NOTED,
    PipelineCause,
    correctness_notes,
    pipeline_causes,
    sections,
    stages_of_window,
    with_stages,
    works,
)
from profkit.analysis.summary import report
from profkit.testing import FakeClock
from profkit.trace.batch import ReadContext
from profkit.trace.load import load, read_native
from profkit.trace.model import Loader, PipelineFlaw, PipelineStage, Trace
from tests.runs import MS
from tests.spaces import Space

US = 1_000_000  # picoseconds
BATCHES = 20


def stage(name: str, ms: float, elements: int = BATCHES, parallelism: int = 1, tuned: bool = False) -> PipelineStage:
    """A stage that takes so long for one of its elements."""
    took = round(ms * elements * MS)
    return PipelineStage(
        name=name, elements=elements, processing_ns=took, buffered=0, parallelism=parallelism, tuned=tuned
    )


def causes(
    *stages: PipelineStage, wait: float, step: float = 100.0, flaws: dict[str, str] | None = None, cpus: int = 8
) -> list[PipelineCause]:
    """The causes of a wait of so many milliseconds in steps of 100 ms; `flaws`: cause -> stage."""
    found = [PipelineFlaw(cause, where, "as planted") for cause, where in (flaws or {}).items()]
    ends = [stage("Root", 0.0), *stages] if stages else []
    return pipeline_causes(Loader("tf.data", {"cpus": cpus}, ends, found), step * MS, wait * MS)


def names(found: list[PipelineCause]) -> list[str]:
    assert {cause.name for cause in found} <= CAUSES.keys()
    return [cause.name for cause in found]


PREFETCH, RANGE = stage("Prefetch", 0.1), stage("Range", 0.0)


@pytest.mark.parametrize("flaw", CAUSES)
def test_a_flaw_is_none_where_nothing_waits(flaw: str) -> None:
    assert causes(PREFETCH, stage("Map", 95.0), wait=9.9, flaws={flaw: "Map"}) == []
    assert causes(wait=9.9, flaws={flaw: "Map"}) == []


def test_stages_that_are_not_busy_explain_nothing() -> None:
    assert causes(PREFETCH, stage("MapAndBatch", 20.0), RANGE, wait=50.0) == []


def test_a_map_on_one_thread_is_serial_and_gains_what_the_other_cores_give() -> None:
    [found] = causes(PREFETCH, stage("Map", 98.0), RANGE, wait=60.0, flaws={"tf_serial_map": "Map"})
    assert (found.name, found.confidence) == ("tf_serial_map", "high")
    assert found.speedup == pytest.approx(100 / 40)  # on three threads a batch comes every 33 ms, the step takes 40
    assert found.evidence["slow_stage_ns_per_batch"] == 98 * MS
    assert found.evidence["definition"] == "Map: as planted"


def test_no_gain_goes_beyond_the_cores() -> None:
    [found] = causes(PREFETCH, stage("Map", 98.0), wait=60.0, flaws={"tf_serial_map": "Map"}, cpus=2)
    assert found.speedup == pytest.approx(100 / ((98 + 40) / 2))


def test_python_comes_before_the_one_thread_it_runs_on() -> None:
    flaws = {"tf_serial_map": "Map", "tf_py_function": "Map"}
    assert names(causes(PREFETCH, stage("MapAndBatch", 98.0), wait=60.0, flaws=flaws)) == [
        "tf_py_function",
        "tf_serial_map",
    ]


def test_a_flaw_of_a_stage_that_is_not_slow_is_no_cause() -> None:
    found = causes(PREFETCH, stage("Batch", 0.1), stage("Generator", 97.0), wait=60.0, flaws={"tf_serial_map": "Map"})
    assert names(found) == ["tf_slow_source"]


@pytest.mark.parametrize(("slow", "found"), [("first", "tf_serial_map"), ("second", "tf_slow_stage")])
def test_of_several_maps_the_flaw_is_that_of_the_one_it_names(slow: str, found: str) -> None:
    from_source = stage("Map", 98.0 if slow == "first" else 1.0)
    behind = stage("ParallelMapV2", 98.0 if slow == "second" else 1.0, tuned=True)
    flaws = {"tf_serial_map": "Map 1 of 2"}
    assert names(causes(PREFETCH, behind, PREFETCH, from_source, wait=60.0, flaws=flaws)) == [found]


def test_a_stage_whose_threads_were_capped() -> None:
    capped = stage("MapAndBatch", 196.0, parallelism=2)
    [found] = causes(PREFETCH, capped, wait=60.0, flaws={"tf_parallelism_capped": "Map"})
    assert found.name == "tf_parallelism_capped"
    assert found.evidence["slow_stage_utilisation"] == pytest.approx(0.98)
    assert "private_threadpool_size=5" in found.remedy  # 196 ms beside 40


def test_what_has_every_core_is_to_be_made_cheaper() -> None:
    [found] = causes(PREFETCH, stage("MapAndBatch", 190.0, tuned=True), wait=60.0, cpus=2)
    assert found.name == "tf_slow_stage"
    assert "on 2 threads:" in found.message
    assert found.remedy == "Make it cheaper, or .cache() what it makes."


def test_what_the_training_thread_does_itself_wants_a_prefetch() -> None:
    found = causes(stage("BatchV2", 0.1), stage("Map", 38.0), wait=40.0, flaws={"tf_serial_map": "Map"})
    assert names(found) == ["tf_no_prefetch", "tf_serial_map"]
    assert [cause.speedup for cause in found] == [pytest.approx(100 / 60), pytest.approx(100 / (60 + 0.1 + 38.0))]


def test_a_buffer_is_filled_where_no_stage_is_always_busy() -> None:
    stages = (PREFETCH, stage("BatchV2", 0.1), stage("Shuffle", 0.1, 160), stage("Map", 5.0, 160))
    flaws = {"tf_shuffle_buffer": "Shuffle"}
    assert names(causes(*stages, wait=50.0, flaws=flaws)) == ["tf_shuffle_buffer"]
    busy = (*stages[:-1], stage("Map", 12.0, 160))
    assert names(causes(*busy, wait=50.0, flaws=flaws)) == ["tf_serial_map"]


def test_without_a_model_the_definition_is_all_there_is() -> None:
    flaws = {"tf_serial_map": "Map", "tf_no_prefetch": "Batch"}
    found = causes(wait=50.0, flaws=flaws)
    assert names(found) == ["tf_no_prefetch", "tf_serial_map"]
    assert {cause.confidence for cause in found} == {"low"}
    assert found[0].speedup == pytest.approx(2.0)


def test_what_is_wrong_with_the_data_is_a_note_and_no_cause() -> None:
    flaws = [PipelineFlaw(cause, "Shuffle", "as planted") for cause in NOTED]
    loader = Loader("tf.data", {"cpus": 8}, [stage("Root", 0.0), PREFETCH, RANGE], flaws)
    assert pipeline_causes(loader, 100 * MS, 90 * MS) == []
    assert [note.partition(": ")[0] for note in correctness_notes(loader)] == ["tf.data, Shuffle"] * len(NOTED)


# --- Work for a batch --------------------------------------------------------------------------------------------


def test_what_was_made_ahead_is_not_counted_to_the_batches_that_came() -> None:
    ahead = [stage("Root", 0.0, 20), stage("Prefetch", 0.5, 20), stage("Map", 4.0, 30)]
    assert [work.ns for work in works(ahead)] == [0.0, 0.0, 4.0 * MS]


def test_a_batch_takes_as_many_elements_as_were_put_into_one() -> None:
    samples = [stage("Root", 0.0), stage("BatchV2", 0.0), stage("Shuffle", 0.0, 160), stage("Map", 4.0, 190)]
    assert works(samples)[-1].ns == 32.0 * MS


def test_what_counts_anew_after_a_repeat_is_still_one_for_one() -> None:
    repeated = [
        stage("Root", 0.0),
        stage("MapAndBatch", 0.0),
        stage("ForeverRepeat", 0.0, 160),
        stage("TFRecord", 4.0, 3),
    ]
    assert works(repeated)[-1].ns == 32.0 * MS


def test_no_section_works_more_than_its_threads_can() -> None:
    [_, slow] = sections([stage("Root", 0.0), stage("MapAndBatch", 500.0, parallelism=2)], 100.0 * MS)
    assert (slow.batch_ns, slow.threads) == (100.0 * MS, 2)


# --- Windows -----------------------------------------------------------------------------------------------------


def windowed(folder: Path) -> Trace:
    """Two batches: a map of 30 µs in the training thread's own shuffle, and a parallel map behind a prefetch."""
    space = Space()
    for at in (0, 100 * US):
        for name, start, length in (("", 0, 60), ("::Shuffle", 5, 50), ("::Shuffle::Map", 10, 40)):
            space.event(f"Iterator::Root{name}", at + start * US, length * US, "python", id=1)
        space.event("Iterator::Root::Shuffle::Map::Prefetch", at + 12 * US, 10 * US, "python", id=1)
        parallel = "Iterator::Root::Shuffle::Map::Prefetch::ParallelMapV2"
        space.event(parallel, at, 80 * US, "tf_data_iterator_get_next/1", id=1, parallelism=2)
    path = folder / "made.xplane.pb"
    path.write_bytes(space.message.SerializeToString())
    return read_native(path, "xplane", ReadContext())


def test_the_spans_of_a_window_tell_what_the_stages_took(tmp_path: Path) -> None:
    found = stages_of_window(windowed(tmp_path))
    assert [(stage.name, stage.elements, stage.processing_ns, stage.parallelism) for stage in found] == [
        ("Root", 2, 20_000, 1),
        ("Shuffle", 2, 20_000, 1),
        ("Map", 2, 60_000, 1),
        ("Prefetch", 2, 0, 1),
        ("ParallelMapV2", 2, 320_000, 2),  # both threads were busy while it was waited for
    ]


def test_the_model_is_asked_before_the_window(tmp_path: Path) -> None:
    trace = windowed(tmp_path)
    assert len(with_stages(Loader("tf.data"), [trace]).stages) == 5
    assert with_stages(Loader("tf.data", {}, [RANGE]), [trace]).stages == [RANGE]
    assert with_stages(Loader("tf.data"), []).stages == []


# --- Any other input ---------------------------------------------------------------------------------------------


def test_a_generators_waits_their_spread_their_period_and_its_start_are_reported(tmp_path: Path) -> None:
    plan = profkit.schedule(skip_first=1_000, active=1)
    with profkit.profile(tmp_path, hooks=[], schedule=plan, sidecar=False, quiet=True) as run:
        clock = FakeClock(run._recorder.clock())
        run._recorder.clock = clock

        def batches() -> Iterator[int]:
            clock.advance(300 * MS)  # opening its files
            for number in range(120):
                clock.advance(40 * MS if number % 6 == 5 else 2 * MS)
                yield number

        for _ in run.loader(batches()):
            clock.advance(10 * MS)
    found = report(load(run.folder))
    wait = found.wait
    assert found.steps == 120
    assert wait is not None and wait.period is not None
    assert (wait.p50_ns, wait.p95_ns, wait.max_ns) == (2 * MS, 40 * MS, 40 * MS)
    assert (wait.period.steps, wait.period.long_ns, wait.period.others_ns) == (6, 40 * MS, 2 * MS)
    assert wait.startup_ns == 302 * MS
    assert wait.batches == 120
    assert wait.mean_ns == pytest.approx((99 * 2 + 20 * 40) / 119 * MS)  # all but the first
    [finding] = found.findings
    assert "every 6th step waits 40 ms, the others 2 ms" in finding.message
