import type { Row, Timeline } from "./format";
import { lowerBound } from "./spans";

/**
 * A row of spans as one line of pixels.
 *
 * A pixel shows the span that covers the most of it, as strong as all spans together cover it. Where many spans share
 * a pixel, whole blocks of them are taken at once, so that the cost follows the pixels and hardly the spans.
 */

const BLOCK = 16;
const FAVOUR = 2 ** 50; // nanoseconds, 13 days: longer than any span, and sums with it are exact

/** For each `BLOCK` places of the columns: their time, and the span to show for them. */
export interface Blocks {
  time: Float64Array;
  best: Int32Array;
  /** 1 for the labels that win over others in a pixel, whatever they cover: what is searched for. */
  favoured: Uint8Array | null;
}

export function blocksOf(t: Timeline, favoured: Uint8Array | null): Blocks {
  const count = Math.ceil(t.count / BLOCK);
  const blocks = { time: new Float64Array(count), best: new Int32Array(count), favoured };
  for (let block = 0; block < count; block++) sumBlock(t, blocks, block);
  return blocks;
}

function sumBlock(t: Timeline, blocks: Blocks, block: number): void {
  const from = block * BLOCK;
  const to = Math.min(from + BLOCK, t.count);
  let time = 0;
  let best = from;
  let most = -1;
  for (let i = from; i < to; i++) {
    const duration = t.duration[i];
    time += duration;
    const weight = blocks.favoured?.[t.label[i]] ? duration + FAVOUR : duration;
    if (weight > most) {
      most = weight;
      best = i;
    }
  }
  blocks.time[block] = time;
  blocks.best[block] = best;
}

/** One line of pixels: the span each shows, or -1, and how much of the pixel spans cover, 0 to 1. */
export interface Cells {
  span: Int32Array;
  cover: Float32Array;
}

export const cellsOf = (width: number): Cells => ({
  span: new Int32Array(width),
  cover: new Float32Array(width),
});

/** Told of each span that fills at least one whole pixel: from the first filled one up to, not including, the last. */
export type OnBox = (span: number, from: number, to: number) => void;

/** Fill `cells` with what `row` shows between the times `start` and `end`. */
export function cover(
  t: Timeline,
  blocks: Blocks,
  row: Row,
  start: number,
  end: number,
  cells: Cells,
  onBox?: OnBox,
): void {
  const width = cells.span.length;
  const scale = width / (end - start);
  const last = row.first + row.count;
  const brush = new Brush(cells);
  let i = Math.max(row.first, lowerBound(t.start, row.first, last, start) - 1);
  while (i < last && t.start[i] < end) {
    const from = (t.start[i] - start) * scale;
    const to = from + t.duration[i] * scale;
    const left = Math.max(0, from);
    const cell = Math.floor(left);
    if (to < 0 || cell >= width) i++;
    else if (from >= 0 && to < cell + 1) i = brush.gather(t, blocks, i, last, cell, start, scale);
    else {
      const favour = blocks.favoured?.[t.label[i]] ? 1 : 0; // a pixel holds at most 1
      const part = Math.min(to, cell + 1) - left;
      brush.add(cell, i, part, part + favour);
      if (to >= cell + 1) {
        const stop = brush.fill(cell + 1, to, i, favour);
        onBox?.(i, cell, stop);
      }
      i++;
    }
  }
}

/** Puts spans into cells from left to right; in each the one of the greatest weight stays. */
class Brush {
  #cell = -1;
  #most = -1;

  constructor(private readonly cells: Cells) {
    cells.span.fill(-1);
    cells.cover.fill(0);
  }

  add(cell: number, span: number, part: number, weight: number): void {
    if (cell !== this.#cell) {
      this.#cell = cell;
      this.#most = -1;
    }
    if (weight > this.#most) {
      this.#most = weight;
      this.cells.span[cell] = span;
    }
    this.cells.cover[cell] += part;
  }

  /** Add span `i`, which lies within `cell`, with all after it that do. Returns the first that does not. */
  gather(t: Timeline, blocks: Blocks, i: number, last: number, cell: number, start: number, scale: number): number {
    const { start: starts, duration, label } = t;
    const { favoured } = blocks;
    const limit = start + (cell + 1) / scale;
    let time = 0;
    let best = i;
    let most = -1;
    do {
      const tail = i + BLOCK - 1;
      const isBlock = i % BLOCK === 0 && tail < last && starts[tail] + duration[tail] < limit;
      const shown = isBlock ? blocks.best[i / BLOCK] : i;
      const weight = favoured?.[label[shown]] ? duration[shown] + 1 / scale : duration[shown];
      if (weight > most) {
        most = weight;
        best = shown;
      }
      time += isBlock ? blocks.time[i / BLOCK] : duration[i];
      i += isBlock ? BLOCK : 1;
    } while (i < last && starts[i] + duration[i] < limit);
    this.add(cell, best, time * scale, most * scale);
    return i;
  }

  /** Fill whole cells from `from` on, and the last one in part. Returns the first that is not whole. */
  fill(from: number, to: number, span: number, favour: number): number {
    const width = this.cells.span.length;
    const stop = Math.min(width, Math.floor(to));
    for (let x = from; x < stop; x++) {
      // Most boxes are short: faster than two calls of `fill`.
      this.cells.span[x] = span;
      this.cells.cover[x] = 1;
    }
    if (stop < width && to > stop) this.add(stop, span, to - stop, to - stop + favour);
    return stop;
  }
}

const FAINTEST = 0.3; // a lone tiny span must be seen
const SEAM = 0.55; // of the first pixel of a box, so that boxes side by side can be told apart
const BOX = 4; // pixels from which a span is a box

/** Paint `cells` over `line`, which holds what lies behind them, in the labels' `colours`. */
export function paint(t: Timeline, cells: Cells, colours: Uint32Array, line: Uint32Array): void {
  const { span, cover: covered } = cells;
  for (let x = 0; x < span.length; x++) {
    const shown = span[x];
    if (shown < 0) continue;
    const isSeam = x > 0 && span[x - 1] !== shown && span[x + BOX - 1] === shown;
    const strength = isSeam ? SEAM * covered[x] : FAINTEST + (1 - FAINTEST) * covered[x];
    const colour = colours[t.label[shown]];
    line[x] = strength >= 1 ? colour : blend(line[x], colour, strength);
  }
}

/** `share` of the colour `over` on the colour `under`: 8 bits each, two channels at a time, all of it in 32 bits. */
export function blend(under: number, over: number, share: number): number {
  const part = (share * 256) | 0;
  const rest = 256 - part;
  const redBlue = (Math.imul(under & 0xff00ff, rest) + Math.imul(over & 0xff00ff, part)) >>> 8;
  const green = (Math.imul(under & 0x00ff00, rest) + Math.imul(over & 0x00ff00, part)) >>> 8;
  return (0xff000000 | (redBlue & 0xff00ff) | (green & 0x00ff00)) >>> 0;
}
