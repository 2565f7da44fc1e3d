import assert from "node:assert/strict";
import test from "node:test";
import { callTree, calledBy, callersOf, frameName, hostTracks, placesOf } from "../src/timeline/calltree";
import type { Timeline } from "../src/timeline/format";
import { pathsOf, sumsOf, totalsOf } from "../src/timeline/paths";
import { childrenOf, labelWord, nameOf, parentOf, selfTime } from "../src/timeline/spans";
import { randomParts, timelineOf, type Parts } from "./timelines";

/** step( forward( conv, internal( conv, relu ) ) ), and conv( conv ) on another thread. */
const PARTS: Parts = {
  spans: [
    { track: 0, depth: 0, start: 0, duration: 100, label: 0 },
    { track: 0, depth: 1, start: 10, duration: 60, label: 1 },
    { track: 0, depth: 2, start: 10, duration: 20, label: 2 },
    { track: 0, depth: 2, start: 30, duration: 40, label: 4 },
    { track: 0, depth: 3, start: 35, duration: 5, label: 2 },
    { track: 0, depth: 3, start: 50, duration: 10, label: 3 },
    { track: 1, depth: 0, start: 0, duration: 50, label: 2 },
    { track: 1, depth: 1, start: 10, duration: 30, label: 2 },
    { track: 2, depth: 0, start: 0, duration: 70, label: 5 },
  ],
  labels: [
    ["train", "annotation"],
    ["forward", "annotation"],
    ["conv", "op"],
    ["relu", "op"],
    ["_call_impl", "python", null, null, 1],
    ["sgemm", "kernel"],
  ],
  tracks: [{}, {}, { kind: "device_stream" }],
};

/** Self time per name as `profkit.analysis.columns.Columns.self_time` has it: own time, an internal's to its caller. */
function expectedSelf(t: Timeline, tracks: number[]): Map<string, number> {
  const isInternal = (span: number): boolean => t.labels.internal[t.label[span]] === 1;
  const self = new Map<string, number>();
  for (const row of t.rows) {
    if (!tracks.includes(row.track)) continue;
    for (let i = row.first; i < row.first + row.count; i++) {
      let own = t.duration[i];
      const [from, to] = childrenOf(t, i);
      for (let child = from; child < to; child++) own -= t.duration[child];
      let owner = i;
      while (owner >= 0 && isInternal(owner)) owner = parentOf(t, owner);
      if (owner >= 0) self.set(nameOf(t, owner), (self.get(nameOf(t, owner)) ?? 0) + own);
    }
  }
  return self;
}

function selfByName(t: Timeline, tracks: number[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const total of totalsOf(t, sumsOf(t, new Set(tracks), 0, t.length))) {
    const name = labelWord(t, total.label, "name")!;
    found.set(name, (found.get(name) ?? 0) + total.self);
  }
  return found;
}

test("what a framework calls around the work is its caller's", () => {
  const t = timelineOf(PARTS);
  const self = selfByName(t, [0]);
  assert.deepEqual(Object.fromEntries(self), { train: 40, forward: 25, conv: 25, relu: 10 });
  assert.equal(selfTime(t, 1), 25);
});

for (const seed of [4, 5, 6]) {
  test(`self times per name are those of the report (${seed})`, () => {
    const t = timelineOf(randomParts(seed, 8_000, 3));
    const found = selfByName(t, [0, 1]);
    for (const [name, self] of expectedSelf(t, [0, 1])) assert.equal(found.get(name), self, name);
    const tree = callTree(t, [0, 1], 0, t.length);
    assert.equal([...found.values()].reduce((sum, self) => sum + self, 0), tree.sums.total[0]);
  });
}

test("recursion counts once in the total, and twice in calls", () => {
  const t = timelineOf(PARTS);
  const conv = totalsOf(t, sumsOf(t, new Set([1]), 0, 100))[0];
  assert.deepEqual([conv.calls, conv.total, conv.self], [2, 50, 50]);
});

test("sums of a range are clipped to it", () => {
  const t = timelineOf(PARTS);
  const sums = sumsOf(t, new Set([0]), 20, 40);
  const found = Object.fromEntries(
    totalsOf(t, sums).map(({ label, calls, total, self }) => [labelWord(t, label, "name"), [calls, total, self]]),
  );
  assert.deepEqual(found, { train: [1, 20, 0], forward: [1, 20, 5], conv: [2, 15, 15] });
  assert.equal(sums.spans, 4);
});

test("a span that only touches the range is outside it", () => {
  const t = timelineOf(PARTS);
  assert.equal(sumsOf(t, new Set([2]), 70, 80).spans, 0);
});

test("a part of a timeline adds up with the rest of it", () => {
  const t = timelineOf(randomParts(7, 5_000, 2));
  const [whole, left, right] = [[0, t.length], [0, t.length / 3], [t.length / 3, t.length]].map(([start, end]) =>
    sumsOf(t, null, start, end),
  );
  whole.self.forEach((self, path) => {
    if (path > 0) assert.ok(Math.abs(self - left.self[path] - right.self[path]) < 1e-3);
  });
});

test("the tree merges equal paths, the longest first, host threads only", () => {
  const t = timelineOf(PARTS);
  assert.deepEqual(hostTracks(t), [0, 1]);
  const tree = callTree(t, hostTracks(t), 0, t.length);
  assert.equal(tree.sums.total[0], 150);
  const names = (frame: number): string[] => [...calledBy(tree, frame)].map((child) => frameName(t, tree, child));
  assert.deepEqual(names(0).slice(0, 2), ["train", "conv"]);
  const forward = calledBy(tree, calledBy(tree, 0)[0])[0];
  assert.deepEqual(names(forward), ["conv", "relu"]);
  assert.deepEqual(callersOf(tree, forward).map((frame) => frameName(t, tree, frame)), ["All", "train", "forward"]);
});

test("frames lie inside their callers, and those too narrow to be seen are left out", () => {
  const t = timelineOf(randomParts(8, 5_000, 2));
  const tree = callTree(t, [0, 1], 0, t.length);
  const places = placesOf(tree, 0, 0.001);
  const at = new Map(places.map((place) => [place.frame, place]));
  for (const { frame, left, width, depth } of places.slice(1)) {
    const caller = at.get(tree.paths.caller[frame])!;
    assert.ok(width >= 0.001 && depth === caller.depth + 1);
    assert.ok(left >= caller.left - 1e-9 && left + width <= caller.left + caller.width + 1e-9);
  }
});

test("parents and children agree", () => {
  const t = timelineOf(randomParts(9, 4_000, 2));
  for (let i = 0; i < t.count; i++) {
    const [from, to] = childrenOf(t, i);
    for (let child = from; child < to; child++) assert.equal(parentOf(t, child), i);
    const parent = parentOf(t, i);
    if (parent >= 0) assert.ok(childrenOf(t, parent)[0] <= i && i < childrenOf(t, parent)[1]);
  }
  assert.equal(pathsOf(t).of.length, t.count);
});
