import type { Row, Timeline } from "./format";
import { lowerBound } from "./spans";

/**
 * A row of spans as one line of pixels.
 *
 * A pixel shows the span that covers the most of it, as strong as all spans together cover it. Where many spans share
 * a pixel, whole blocks of them are taken at once, so that the cost follows the pixels and hardly the spans.
 */

const BLOCK = 32;

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
    const weight = blocks.favoured?.[t.label[i]] ? duration + Number.MAX_SAFE_INTEGER : duration;
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
  const favour = (span: number): number => (blocks.favoured?.[t.label[span]] ? 1 : 0); // a pixel holds at most 1
  let i = Math.max(row.first, lowerBound(t.start, row.first, last, start) - 1);
  while (i < last && t.start[i] < end) {
    const from = (t.start[i] - start) * scale;
    const to = from + t.duration[i] * scale;
    const left = Math.max(0, from);
    const cell = Math.floor(left);
    if (to < 0 || cell >= width) i++;
    else if (from >= 0 && isOneCell(t, i, last, (cell + 1) / scale + start)) {
      const best = blocks.best[i / BLOCK];
      brush.add(cell, best, blocks.time[i / BLOCK] * scale, t.duration[best] * scale + favour(best));
      i += BLOCK;
    } else {
      const part = Math.min(to, cell + 1) - left;
      brush.add(cell, i, part, part + favour(i));
      if (to >= cell + 1) {
        const stop = brush.fill(cell + 1, to, i, favour(i));
        onBox?.(i, cell, stop);
      }
      i++;
    }
  }
}

/** Whether the spans from `i` on are a block that ends before the time `limit`. */
function isOneCell(t: Timeline, i: number, last: number, limit: number): boolean {
  const tail = i + BLOCK - 1;
  return i % BLOCK === 0 && tail < last && t.start[tail] + t.duration[tail] < limit;
}

/** Puts spans into cells from left to right; in each the one of the greatest weight stays. */
class Brush {
  private cell = -1;
  private most = -1;

  constructor(private readonly cells: Cells) {
    cells.span.fill(-1);
    cells.cover.fill(0);
  }

  add(cell: number, span: number, part: number, weight: number): void {
    if (cell !== this.cell) {
      this.cell = cell;
      this.most = -1;
    }
    if (weight > this.most) {
      this.most = weight;
      this.cells.span[cell] = span;
    }
    this.cells.cover[cell] += part;
  }

  /** Fill whole cells from `from` on, and the last one in part. Returns the first that is not whole. */
  fill(from: number, to: number, span: number, favour: number): number {
    const width = this.cells.span.length;
    const stop = Math.min(width, Math.floor(to));
    this.cells.span.fill(span, from, stop);
    this.cells.cover.fill(1, from, stop);
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

/** `share` of the colour `over` on the colour `under`; two channels at a time. */
export function blend(under: number, over: number, share: number): number {
  const part = Math.max(0, Math.round(share * 256));
  const rest = 256 - part;
  const redBlue = ((under & 0xff00ff) * rest + (over & 0xff00ff) * part) / 256;
  const green = ((under & 0x00ff00) * rest + (over & 0x00ff00) * part) / 256;
  return (0xff000000 | (redBlue & 0xff00ff) | (green & 0x00ff00)) >>> 0;
}
