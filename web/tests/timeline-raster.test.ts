import assert from "node:assert/strict";
import test from "node:test";
import type { Row, Timeline } from "../src/timeline/format";
import { blocksOf, cellsOf, cover, paint, type Cells } from "../src/timeline/raster";
import { randomParts, timelineOf } from "./timelines";

const WIDTH = 300;
const ZOOMS = [1, 0.3, 0.05, 0.004, 0.0002];

/** Every span of the row in every pixel, one after the other: slow, and without anything to get wrong. */
function naive(t: Timeline, row: Row, start: number, end: number, width: number, favoured: Uint8Array | null) {
  const parts = Array.from({ length: width }, () => new Map<number, number>());
  const scale = width / (end - start);
  for (let i = row.first; i < row.first + row.count; i++) {
    const from = (t.start[i] - start) * scale;
    const to = from + t.duration[i] * scale;
    for (let x = Math.max(0, Math.floor(from)); x < width && x <= to; x++) {
      const part = Math.min(to, x + 1) - Math.max(from, x);
      if (part > 0 || (t.duration[i] === 0 && x === Math.floor(from))) parts[x].set(i, part);
    }
  }
  const weight = (i: number, part: number): number => part + (favoured?.[t.label[i]] ? 1 : 0);
  return parts.map((part) => ({
    part,
    cover: [...part.values()].reduce((sum, value) => sum + value, 0),
    most: Math.max(-1, ...[...part].map(([i, value]) => weight(i, value))),
    weight,
  }));
}

const ROUNDING = 1e-6; // of a pixel

function compare(t: Timeline, row: Row, start: number, end: number, favoured: Uint8Array | null, cells: Cells): void {
  naive(t, row, start, end, WIDTH, favoured).forEach(({ part, cover: covered, most, weight }, x) => {
    const shown = cells.span[x];
    const where = `pixel ${x} of row ${row.track}/${row.depth} from ${start} to ${end}`;
    if (covered > ROUNDING) assert.ok(shown >= 0, `missing: ${where}`);
    if (covered === 0 && part.size === 0) assert.ok(shown < 0 || t.start[shown] <= end, `invented: ${where}`);
    assert.ok(Math.abs(cells.cover[x] - covered) < 1e-4, `${cells.cover[x]} of ${covered} covered: ${where}`);
    if (shown >= 0 && part.has(shown)) {
      assert.ok(weight(shown, part.get(shown)!) >= most - ROUNDING, `not the longest: ${where}`);
    } else if (shown >= 0) assert.ok(most < ROUNDING, `a foreign span: ${where}`);
  });
}

for (const seed of [1, 2, 3]) {
  test(`no pixel is missed and each shows what covers the most of it (${seed})`, () => {
    const t = timelineOf(randomParts(seed, 20_000, 3));
    const middle = t.length * 0.37;
    const cells = cellsOf(WIDTH);
    const favoured = Uint8Array.from(t.labels.name, (_, label) => Number(label === 3));
    for (const mask of [null, favoured]) {
      const blocks = blocksOf(t, mask);
      for (const zoom of ZOOMS) {
        const [start, end] = [middle - middle * zoom, middle + (t.length - middle) * zoom];
        for (const row of t.rows) {
          cover(t, blocks, row, start, end, cells);
          compare(t, row, start, end, mask, cells);
        }
      }
    }
  });
}

test("a wide span after a tiny one in the same pixel is drawn", () => {
  const spans = [
    { track: 0, depth: 0, start: 0, duration: 1, label: 0 },
    { track: 0, depth: 0, start: 2, duration: 90, label: 1 },
  ];
  const t = timelineOf({ spans, labels: [["tiny", "op"], ["wide", "op"]] });
  const cells = cellsOf(10);
  cover(t, blocksOf(t, null), t.rows[0], 0, 100, cells);
  assert.deepEqual([...cells.span], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
});

test("boxes are told with the pixels they fill", () => {
  const spans = [{ track: 0, depth: 0, start: 15, duration: 50, label: 0 }];
  const t = timelineOf({ spans, labels: [["a", "op"]], length: 100 });
  const boxes: number[][] = [];
  cover(t, blocksOf(t, null), t.rows[0], 0, 100, cellsOf(10), (...box) => boxes.push(box));
  assert.deepEqual(boxes, [[0, 1, 6]]);
});

test("the less of a pixel is covered, the fainter it is, and a lone span of no length is seen", () => {
  const spans = [
    { track: 0, depth: 0, start: 0, duration: 10, label: 0 },
    { track: 0, depth: 0, start: 10, duration: 5, label: 0 },
    { track: 0, depth: 0, start: 25, duration: 0, label: 0 },
  ];
  const t = timelineOf({ spans, labels: [["a", "op"]], length: 40 });
  const cells = cellsOf(4);
  cover(t, blocksOf(t, null), t.rows[0], 0, 40, cells);
  const line = new Uint32Array(4).fill(0xff000000);
  paint(t, cells, Uint32Array.of(0xffffffff), line);
  const brightness = [...line].map((pixel) => pixel & 255);
  assert.equal(brightness[0], 255);
  assert.ok(brightness[1] < brightness[0] && brightness[2] < brightness[1] && brightness[2] > 40);
  assert.equal(brightness[3], 0);
});
