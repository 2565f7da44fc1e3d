import assert from "node:assert/strict";
import test from "node:test";
import type { RankRow } from "../src/data/types";
import { join } from "../src/ranks/join";
import { among, linesOf, ordered, orderOf, rangesOf, ranksIn } from "../src/ranks/order";
import { placeOf, stateOf } from "../src/ranks/seen";
import { closedAtFirst, layoutOf, trackPath } from "../src/timeline/lanes";
import { childrenOf, linksOf, nameOf, parentOf, stepOf } from "../src/timeline/spans";
import { timelineOf, type Parts } from "./timelines";

const row = (rank: number, late_ns = 0, host = `node${rank >> 3}`): RankRow =>
  ({ rank, late_ns, host, waiting_ns: 0, wait_ns: 0, step_ns: 1 }) as RankRow;

const rows = (count: number): RankRow[] => Array.from({ length: count }, (_, rank) => row(rank));
const ranksOf = (found: RankRow[]): number[] => found.map(({ rank }) => rank);

test("ranks are found by number, by range and by host", () => {
  const all = rows(32);
  assert.deepEqual(ranksOf(among(all, "")), ranksOf(all));
  assert.deepEqual(ranksOf(among(all, "3, 8-10")), [3, 8, 9, 10]);
  assert.deepEqual(ranksOf(among(all, "NODE3")), [24, 25, 26, 27, 28, 29, 30, 31]);
  assert.deepEqual(ranksOf(among(all, "(")), []);
});

test("the latest come first, of equals the lower rank; by rank from 0 on", () => {
  const all = [row(2, 5), row(0, 5), row(1, 9)];
  assert.deepEqual(ranksOf(ordered(all, orderOf("late"))), [1, 0, 2]);
  assert.deepEqual(ranksOf(ordered(all, orderOf("nonsense"))), [0, 1, 2]);
});

test("ranks that are named are those known, each once and not too many", () => {
  const known = new Set([0, 1, 2, 3, 9]);
  assert.deepEqual(ranksIn("9, 1-3, 1, 77, x", known, 8), [9, 1, 2, 3]);
  assert.deepEqual(ranksIn("0-1000000", known, 3), [0, 1, 2]);
  assert.deepEqual(ranksIn("", known, 8), []);
});

test("ranks are said in ranges", () => {
  assert.equal(rangesOf([5, 3, 6, 7]), "3, 5–7");
  assert.equal(rangesOf([0, 2, 4], 2), "0, 2, …");
});

test("of ranks that share a line the latest is drawn, and all are counted", () => {
  const all = rows(1_000).map((one) => row(one.rank, one.rank === 500 ? 7 : 0));
  const lines = linesOf(all, 300, new Set());
  assert.ok(lines.length <= 300);
  assert.equal(lines.reduce((sum, { count }) => sum + count, 0), 1_000);
  assert.deepEqual(lines.filter((line) => line.row.late_ns).map((line) => line.row.rank), [500]);
});

test("a marked rank has a line for itself, wherever it stands", () => {
  for (const rank of [0, 1, 499, 999]) {
    const lines = linesOf(rows(1_000), 300, new Set([rank]));
    assert.equal(lines.find((line) => line.row.rank === rank)?.count, 1);
    assert.equal(lines.reduce((sum, { count }) => sum + count, 0), 1_000);
  }
});

test("a few ranks have a line each", () => {
  assert.deepEqual(linesOf(rows(3), 300, new Set()).map((line) => line.count), [1, 1, 1]);
  assert.deepEqual(linesOf([], 300, new Set()), []);
});

const PARTS: Parts = {
  spans: [
    { track: 0, depth: 0, start: 0, duration: 100, label: 0, step: 5 },
    { track: 0, depth: 1, start: 10, duration: 20, label: 1, step: 5, detail: 1 },
    { track: 1, depth: 0, start: 40, duration: 50, label: 2, step: null },
  ],
  labels: [["outer", "op"], ["inner", "op", "forward"], ["kernel", "kernel"]],
  details: [{}, { shapes: "[[1]]" }],
  tracks: [{ name: "thread 7 (training)", tid: 7 }, { name: "stream", kind: "device_stream" }],
  steps: [{ number: 5, start: 0, duration: 100 }],
  links: [{ kind: "launch", from: 1, to: 2 }],
  memory: [{ device: "gpu:0", points: [[3, 10, 20]] }],
  counters: [{ name: "cpu_percent", unit: "percent", time_ns: [4], value: [50] }],
  trainingTrack: 0,
  firstStep: 5,
};

const OTHERS: Parts["labels"] = [["outer of 3", "op"], ["inner of 3", "op"], ["kernel", "kernel"]];

const pair = (offsetNs: number) =>
  join([
    { rank: 0, title: "Rank 0", timeline: timelineOf(PARTS), offsetNs: 0 },
    { rank: 3, title: "Rank 3", timeline: timelineOf({ ...PARTS, labels: OTHERS, firstStep: 3 }), offsetNs },
  ]);

test("the times of a rank are shifted by its clock's offset, and begin with the first of all", () => {
  const later = pair(1_000);
  assert.deepEqual([...later.start], [0, 10, 40, 1_000, 1_010, 1_040]);
  assert.equal(later.length, 1_100);
  const earlier = pair(-1_000);
  assert.deepEqual([...earlier.start], [1_000, 1_010, 1_040, 0, 10, 40]);
  assert.equal(BigInt(later.startNs) - BigInt(earlier.startNs), 1_000n);
  assert.deepEqual(earlier.steps, [{ number: 5, start: 1_000, duration: 100 }]);
  assert.deepEqual(earlier.memory.map(({ device, time }) => [device, ...time]), [
    ["Rank 0: gpu:0", 1_003],
    ["Rank 3: gpu:0", 3],
  ]);
  assert.deepEqual(earlier.counters.map(({ time_ns }) => time_ns), [[1_004], [4]]);
});

test("spans keep names, details, steps, children and links", () => {
  const joined = pair(1_000);
  const names = Array.from(joined.start, (_, span) => nameOf(joined, span));
  assert.deepEqual(names, ["outer", "inner", "kernel", "outer of 3", "inner of 3", "kernel"]);
  for (const first of [0, 3]) {
    assert.equal(joined.details[joined.detail[first + 1]].shapes, "[[1]]");
    assert.deepEqual(childrenOf(joined, first), [first + 1, first + 2]);
    assert.equal(parentOf(joined, first + 1), first);
    assert.deepEqual(linksOf(joined, first + 1), [{ kind: "launch", from: first + 1, to: first + 2 }]);
    assert.deepEqual([0, 1, 2].map((i) => stepOf(joined, first + i)), [5, 5, null]);
  }
});

test("tracks are grouped by rank, the training thread first", () => {
  const joined = pair(0);
  const { heads } = layoutOf(joined, closedAtFirst(joined));
  assert.deepEqual(
    heads.slice(0, 6).map(({ title }) => title),
    ["Rank 0 · 2", "training: thread 7", "stream", "Rank 3 · 2", "training: thread 7", "stream"],
  );
  assert.equal(trackPath(joined, 3), "Rank 3 · stream");
  assert.deepEqual(joined.tracks.map(({ rank }) => rank), [0, 0, 3, 3]);
});

test("processes of two hosts with one number stay apart", () => {
  const pids = pair(0).tracks.map(({ pid }) => pid);
  assert.equal(pids[0], pids[1]);
  assert.equal(pids[2], pids[3]);
  assert.notEqual(pids[0], pids[2]);
});

test("a timeline of one rank has the sections it had", () => {
  const alone = timelineOf(PARTS);
  const { heads } = layoutOf(alone, new Set());
  assert.deepEqual(heads.slice(0, 2).map(({ title }) => title), ["training: thread 7", "stream"]);
  assert.equal(trackPath(alone, 1), "stream");
});

test("what is seen comes back from the address, and nonsense there is nothing", () => {
  const state = { start: 12, end: 500, span: 3, search: "conv", range: [20, 40] as [number, number] };
  const { seen, search } = placeOf(state);
  assert.deepEqual(stateOf(seen, search), state);
  assert.equal(placeOf({ span: undefined }).seen, undefined);
  assert.deepEqual(stateOf("x_-1_1e9_NaN_", undefined), {
    start: undefined,
    end: undefined,
    span: undefined,
    search: undefined,
    range: undefined,
  });
});
