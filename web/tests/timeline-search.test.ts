import assert from "node:assert/strict";
import test from "node:test";
import { complaint, hitsOf, labelSums, maskOf, nextHit, patternOf } from "../src/timeline/search";
import { nameOf } from "../src/timeline/spans";
import { literal } from "../src/words";
import { randomParts, timelineOf } from "./timelines";

const t = timelineOf(randomParts(11, 3_000, 3));
const mask = maskOf(t, patternOf("CONV|sgemm"), new Set())!;
const hits = Array.from({ length: t.count }, (_, i) => i).filter((i) => /conv|sgemm/i.test(nameOf(t, i)));

test("a pattern finds names without regard to case, and counts spans and time", () => {
  assert.deepEqual(hitsOf(labelSums(t), mask), {
    calls: hits.length,
    time: hits.reduce((sum, i) => sum + t.duration[i], 0),
  });
});

test("hits follow each other in time, forwards and backwards, each once", () => {
  const inTime = [...hits].sort((a, b) => t.start[a] - t.start[b] || a - b);
  const forwards = [];
  for (let i = nextHit(t, mask, -1, -1, 1); i >= 0; i = nextHit(t, mask, i, 0, 1)) forwards.push(i);
  assert.deepEqual(forwards, inTime);
  const backwards = [];
  for (let i = nextHit(t, mask, -1, Infinity, -1); i >= 0; i = nextHit(t, mask, i, 0, -1)) backwards.push(i);
  assert.deepEqual(backwards, inTime.reverse());
});

test("a pattern that is none is told in a sentence", () => {
  assert.equal(complaint("conv|linear"), null);
  assert.equal(complaint(""), null);
  assert.match(complaint("(")!, /^Not a regular expression: .+\.$/);
  assert.match(complaint("a{2,1}")!, /^Not a regular expression: .+\.$/);
});

test("hidden tones are none of the hits", () => {
  const shown = maskOf(t, null, new Set(["communication"]))!;
  const isHidden = (name: string): boolean => t.labels.name.some((word, label) => t.words[word] === name && !shown[label]);
  assert.ok(isHidden("ncclDevKernel_AllReduce"));
  assert.ok(!isHidden("aten::conv2d"));
  assert.equal(maskOf(t, null, new Set()), null);
});

test("the pattern for one name finds it alone, whatever is in it", () => {
  for (const name of ["aten::conv2d", "a.b(c)[d]{e}|f^$*+?\\/", "<img src=x onerror=alert(1)>", "x".repeat(10_000), "-–😀"]) {
    assert.ok(patternOf(literal(name))!.test(name), name);
    assert.ok(!patternOf(literal(name))!.test(`another ${name}`));
  }
});
