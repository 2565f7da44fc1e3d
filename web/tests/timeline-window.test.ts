import assert from "node:assert/strict";
import test from "node:test";
import { closedAtFirst, layoutOf, trackKey } from "../src/timeline/lanes";
import { clamped, fitting, panned, ticksOf, timeLabel, zoomed } from "../src/timeline/window";
import { timelineOf, type Parts } from "./timelines";

const LENGTH = 1_000_000;

test("zooming keeps the time below the pointer where it is", () => {
  const window = { start: 200_000, end: 600_000 };
  const closer = zoomed(window, 0.5, 0.25, LENGTH);
  assert.deepEqual(closer, { start: 250_000, end: 450_000 });
});

test("the window stays inside the timeline and never gets empty", () => {
  assert.deepEqual(zoomed({ start: 0, end: 10 }, 1e9, 0.5, LENGTH), { start: 0, end: LENGTH });
  assert.deepEqual(panned({ start: 0, end: 100 }, -5, LENGTH), { start: 0, end: 100 });
  assert.deepEqual(panned({ start: LENGTH - 100, end: LENGTH }, 5, LENGTH), { start: LENGTH - 100, end: LENGTH });
  const tiny = zoomed({ start: 500, end: 600 }, 1e-9, 0.5, LENGTH);
  assert.ok(tiny.end - tiny.start >= 20);
  assert.deepEqual(clamped({ start: 3, end: 5 }, 0), { start: 0, end: 1 });
  const fit = fitting(100, 100, LENGTH);
  assert.ok(fit.start <= 100 && fit.end >= 100 && fit.end > fit.start);
});

test("ticks are round and far enough apart", () => {
  assert.deepEqual(ticksOf({ start: 130, end: 700 }, 90), [200, 300, 400, 500, 600, 700]);
  assert.deepEqual(ticksOf({ start: 0, end: 1_000 }, 201), [0, 500, 1_000]);
});

test("labels of neighbouring ticks differ", () => {
  assert.equal(timeLabel(1_500_000_000, 100_000_000), "1.5 s");
  assert.equal(timeLabel(12_345_678, 100), "12.3457 ms");
  assert.equal(timeLabel(12_345_700, 100), "12.3457 ms");
  assert.equal(timeLabel(40_000_000, 20_000_000), "40 ms");
  assert.equal(timeLabel(0, 10), "0 s");
});

const span = (track: number, depth = 0, label = 0) => ({ track, depth, start: depth, duration: 10 - 2 * depth, label });
const PARTS: Parts = {
  spans: [span(0), span(0, 1), span(2), span(3), span(3, 1), span(4), span(4, 1), span(5, 0, 1), span(5, 1, 1), span(6)],
  labels: [["a", "op"], ["_call", "python", null, null, 1]],
  tracks: [
    { name: "thread 10" },
    { name: "empty" },
    { name: "stream 7", kind: "device_stream" },
    { name: "worker", kind: "loader_worker" },
    { name: "main" },
    { name: "thread 9" },
    { name: "steps", kind: "steps" },
  ],
  trainingTrack: 4,
};

test("steps come first, then training, workers, streams and other threads; empty tracks are left out", () => {
  const t = timelineOf(PARTS);
  const { heads } = layoutOf(t, new Set());
  assert.deepEqual(heads.map((head) => head.title), [
    "Steps",
    "main",
    "worker",
    "stream 7",
    "Other threads · 2",
    "thread 9",
    "thread 10",
  ]);
});

test("a closed track is one line of all its rows, a closed section is none", () => {
  const t = timelineOf(PARTS);
  const open = layoutOf(t, new Set());
  const closed = layoutOf(t, new Set([trackKey(4), "other"]));
  assert.ok(closed.height < open.height);
  const training = closed.lanes.filter((lane) => lane.kind === "rows" && lane.track === 4);
  assert.equal(training.length, 1);
  assert.equal(training[0].kind === "rows" && training[0].rows.length, 2);
  assert.ok(!closed.lanes.some((lane) => lane.kind === "rows" && lane.track === 0));
});

test("tracks of internals alone are closed at first", () => {
  assert.deepEqual([...closedAtFirst(timelineOf(PARTS))], [trackKey(5)]);
});
