import assert from "node:assert/strict";
import test from "node:test";
import type { BatchSeries, Fetch, Prediction } from "../src/data/types";
import { heightOf, wordsOf } from "../src/loading/Batches";
import { bestOf, curveOf, pasted } from "../src/loading/curve";
import { verdictOf } from "../src/loading/FetchCard";
import { byKind, inOrder } from "../src/loading/kinds";
import { lanesOf, stretchOf } from "../src/loading/lanes";
import { partOf } from "../src/loading/parts";
import { median } from "../src/parts/scale";

const MS = 1e6;

const BATCHES: BatchSeries = {
  stretch: 1,
  step: [0, 1, null],
  asked_ns: [0, 20 * MS, 40 * MS],
  wait_ns: [10 * MS, 12 * MS, 7 * MS],
  by_stage: {
    item: [6 * MS, 7 * MS, 0],
    backlog: [1 * MS, 2 * MS, 3 * MS],
    hold: [3 * MS, 3 * MS, 3 * MS],
    unheard_of: [0, 0, 1 * MS],
  },
  ready: [0, 2, null],
  worker: [1, 0, null],
  fetch_start_ns: [5 * MS, 2 * MS, null],
  fetch_ns: [4 * MS, 18 * MS, null],
};

test("the kinds of a batch add up to its wait, whatever stages a later profkit has", () => {
  const kinds = byKind(BATCHES);
  assert.deepEqual(
    kinds.map(([kind]) => kind),
    ["line", "item", "other"],
  );
  BATCHES.wait_ns.forEach((wait, i) =>
    assert.equal(
      kinds.reduce((sum, [, waits]) => sum + waits[i], 0),
      wait,
    ),
  );
});

test("stages stand in the order of a batch's way, and those of nothing are left out", () => {
  const stages = ["other", "later", "hold", "sampler", "pin"].map((name) => ({
    name,
    mean_ns: name === "hold" ? 5 : null,
    wait_ns: name === "pin" || name === "hold" ? 0 : 1,
  }));
  assert.deepEqual(
    inOrder(stages).map(({ name }) => name),
    ["sampler", "hold", "other", "later"],
  );
});

test("a batch in words names the largest stage first, and what is not known is not said", () => {
  assert.equal(wordsOf(BATCHES, 1), "Batch of step 1: 12 ms, items 7 ms, hold 3 ms, backlog 2 ms; 2 ready, worker 0");
  assert.equal(
    wordsOf(BATCHES, 2),
    "A batch that no step took: 7 ms, backlog 3 ms, hold 3 ms, unheard_of 1 ms; training process",
  );
});

test("a rare long wait does not flatten the others, and a usual one is never cut off", () => {
  assert.equal(heightOf([...Array<number>(99).fill(10), 900]), 40);
  assert.equal(heightOf([...Array<number>(80).fill(10), ...Array<number>(20).fill(900)]), 900);
  assert.equal(heightOf([10, 12, 39]), 39);
  assert.equal(heightOf([0, 0]), 1);
});

test("a lane is what one worker fetched, in the order in which it did", () => {
  assert.deepEqual(
    lanesOf(BATCHES).map(({ worker, bars }) => [worker, bars.map(({ at }) => at)]),
    [
      [0, [1]],
      [1, [0]],
    ],
  );
  assert.deepEqual(stretchOf(BATCHES, 2), [20 * MS, 47 * MS]);
  assert.deepEqual(stretchOf(BATCHES, 50), [0, 47 * MS]);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

const workers = (number: number, step: number): Prediction => ({
  kind: "workers",
  settings: { num_workers: number },
  step_ns: step * MS,
  wait_ns: 0,
  speedup: 20 / step,
  confidence: "high",
});

test("the best number of workers is the smallest within three percent of the shortest step", () => {
  const curve = curveOf({ predictions: [workers(8, 10), workers(2, 20), workers(4, 10.2), workers(3, 10.4)] } as never);
  assert.deepEqual(
    curve.map(({ workers }) => workers),
    [2, 3, 4, 8],
  );
  assert.equal(bestOf(curve)?.workers, 4);
  assert.equal(bestOf([]), undefined);
  assert.equal(pasted({ num_workers: 4, prefetch_factor: 2 }), "DataLoader(…, num_workers=4, prefetch_factor=2)");
});

const fetchOf = (parts: Partial<Fetch>): Fetch => ({
  mean_ns: 100,
  p50_ns: 100,
  p95_ns: 100,
  max_ns: 100,
  cpu_ns: 0,
  run_queue_ns: 0,
  blocked_ns: 0,
  read_chars: null,
  read_bytes: null,
  ...parts,
});

test("a fetch is called what most of it is", () => {
  assert.match(verdictOf(fetchOf({ cpu_ns: 90, blocked_ns: 10 })), /^CPU-bound/);
  assert.match(verdictOf(fetchOf({ cpu_ns: 50, run_queue_ns: 50 })), /^Waiting for a core/);
  assert.match(verdictOf(fetchOf({ blocked_ns: 90, read_chars: 1e6, read_bytes: 8e5 })), /^Blocked on storage/);
  assert.match(verdictOf(fetchOf({ blocked_ns: 90, read_chars: 1e6, read_bytes: 1e5 })), /hardly by storage/);
  assert.match(verdictOf(fetchOf({ cpu_ns: 55, blocked_ns: 45 })), /^Mixed/);
  assert.match(verdictOf(fetchOf({ cpu_ns: null })), /does not say/);
});

test("a cause leads to the card that explains it", () => {
  const known = {
    slow_samples: "samples",
    slow_sampler: "stages",
    loader_restarts: "startup",
    too_few_workers: "whatif",
    slow_storage: "fetch",
    tf_shuffle_buffer: "pipeline",
    whatif: "whatif",
    of_a_later_profkit: "stages",
  };
  for (const [cause, part] of Object.entries(known)) assert.equal(partOf(cause), part, cause);
});
