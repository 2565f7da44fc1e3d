import assert from "node:assert/strict";
import test from "node:test";
import { decode } from "../src/timeline/format";
import { encode, largeParts, timelineOf, type Parts } from "./timelines";

const PARTS: Parts = {
  spans: [
    { track: 0, depth: 0, start: 5, duration: 6_000_000_000, label: 0, step: 7 },
    { track: 0, depth: 0, start: 15_000_000_005, duration: 3, label: 1, detail: 1, step: 8 },
    { track: 1, depth: 0, start: 9, duration: 0, label: 1, step: null },
  ],
  labels: [["a", "op", "forward", "conv"], ["<img onerror=alert(1)> 😀\u0000", "kernel"]],
  details: [{}, { shapes: "[[1, 2]]", flops: 12 }],
  firstStep: 7,
  steps: [{ number: 7, start: 0, duration: 9 }],
  links: [{ kind: "launch", from: 0, to: 2 }],
  memory: [
    { device: "cpu", points: [[1, 2, NaN]] },
    { device: "cuda:0", points: [[3, 4, 5], [6, 7, 8]] },
  ],
  trainingTrack: 1,
};

test("columns are read back, with times that exceed 32 bits", () => {
  const t = timelineOf(PARTS);
  assert.deepEqual([...t.start], [5, 15_000_000_005, 9]);
  assert.deepEqual([...t.duration], [6_000_000_000, 3, 0]);
  assert.deepEqual([...t.label], [0, 1, 1]);
  assert.deepEqual([...t.detail], [0, 1, 0]);
  assert.deepEqual([...t.step], [1, 2, 0]);
  assert.deepEqual(t.rows.map((row) => [row.track, row.depth, row.first, row.count]), [[0, 0, 0, 2], [1, 0, 2, 1]]);
  assert.equal(t.words[t.labels.name[1]], "<img onerror=alert(1)> 😀\u0000");
  assert.equal(t.startNs, "1700000000123456789");
  assert.equal(t.trainingTrack, 1);
});

test("links, memory and steps are read back", () => {
  const t = timelineOf(PARTS);
  assert.deepEqual([t.links.kinds[t.links.kind[0]], t.links.from[0], t.links.to[0]], ["launch", 0, 2]);
  assert.deepEqual(t.memory.map(({ device, time }) => [device, ...time]), [["cpu", 1], ["cuda:0", 3, 6]]);
  assert.deepEqual([...t.memory[1].allocated], [4, 7]);
  assert.ok(Number.isNaN(t.memory[0].reserved[0]));
  assert.deepEqual(t.steps, [{ number: 7, start: 0, duration: 9 }]);
});

test("a timeline without spans is one", () => {
  const t = timelineOf({ spans: [], labels: [] });
  assert.equal(t.count, 0);
  assert.deepEqual(t.rows, []);
});

test("what is no timeline, or a later version of it, is refused in one sentence", () => {
  assert.throws(() => decode(new ArrayBuffer(3)), /^Error: This is no timeline of profkit\.$/);
  assert.throws(() => decode(new TextEncoder().encode('{"traceEvents": []}').buffer as ArrayBuffer), /no timeline/);
  const later = encode(PARTS);
  new Uint8Array(later)[4] = 2;
  assert.throws(() => decode(later), /version 2 and this page reads version 1: update profkit\.$/);
});

test("a million spans are read in far less than a frame's patience", () => {
  const buffer = encode(largeParts(1_000_000));
  const times = Array.from({ length: 5 }, () => {
    const begun = performance.now();
    decode(buffer);
    return performance.now() - begun;
  });
  assert.ok(Math.min(...times) < 100, `${Math.min(...times)} ms`); // 10 to 25 ms on an idle machine
});
