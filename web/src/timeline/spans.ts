import type { Row, Timeline } from "./format";

/** Questions about single spans, answered by bisection in their rows. */

/** First place in [from, to) whose value is at least `value`, of a sorted column. */
export function lowerBound(column: ArrayLike<number>, from: number, to: number, value: number): number {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (column[middle] < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** First place in [from, to) whose value is above `value`. */
export function upperBound(column: ArrayLike<number>, from: number, to: number, value: number): number {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (column[middle] <= value) from = middle + 1;
    else to = middle;
  }
  return from;
}

export const endOf = (t: Timeline, span: number): number => t.start[span] + t.duration[span];

/** The word of a label's column, or null. */
export function labelWord(t: Timeline, label: number, column: "name" | "kind" | "phase" | "op_class"): string | null {
  return t.words[t.labels[column][label]] ?? null;
}

export const nameOf = (t: Timeline, span: number): string => labelWord(t, t.label[span], "name") ?? "";

/** Number of the step that launched the span, or null. */
export function stepOf(t: Timeline, span: number): number | null {
  return t.step[span] && t.firstStep !== null ? t.step[span] - 1 + t.firstStep : null;
}

/** Place in `rows` of the span's row. */
export function rowOf(t: Timeline, span: number): number {
  let from = 0;
  let to = t.rows.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (t.rows[middle].first <= span) from = middle + 1;
    else to = middle;
  }
  return from - 1;
}

/** Whether the row `below` is the next depth of the same track. */
export function isNested(above: Row | undefined, below: Row | undefined): boolean {
  return !!above && !!below && above.track === below.track && above.depth + 1 === below.depth;
}

/** The enclosing span on the same track, or -1. */
export function parentOf(t: Timeline, span: number): number {
  const row = rowOf(t, span);
  const above = t.rows[row - 1];
  if (!isNested(above, t.rows[row])) return -1;
  return Math.max(upperBound(t.start, above.first, above.first + above.count, t.start[span]) - 1, above.first);
}

/** Direct children: places from the first up to, not including, the second. */
export function childrenOf(t: Timeline, span: number): [from: number, to: number] {
  const row = rowOf(t, span);
  const below = t.rows[row + 1];
  if (!isNested(t.rows[row], below)) return [0, 0];
  const last = below.first + below.count;
  const next = span + 1 < t.rows[row].first + t.rows[row].count ? t.start[span + 1] : Infinity;
  const from = lowerBound(t.start, below.first, last, t.start[span]);
  // A child of no duration may lie at its parent's very end, where the next span begins.
  const to = Math.min(lowerBound(t.start, from, last, next), upperBound(t.start, from, last, endOf(t, span)));
  return [from, Math.max(from, to)];
}

/** Duration less that of direct children, in nanoseconds; what a framework calls around the work is its caller's. */
export function selfTime(t: Timeline, span: number): number {
  return t.duration[span] - covered(t, span);
}

function covered(t: Timeline, span: number): number {
  let time = 0;
  const [from, to] = childrenOf(t, span);
  for (let i = from; i < to; i++) time += t.labels.internal[t.label[i]] ? covered(t, i) : t.duration[i];
  return time;
}

export interface Link {
  kind: string;
  from: number;
  to: number;
}

const MOST_LINKS = 64; // more would be a ball of wool

/** Links of the span; where it has none, those of what it called. */
export function linksOf(t: Timeline, span: number): Link[] {
  const own = linksWhere(t, (end) => end === span);
  return own.length ? own : linksWhere(t, (end) => isInside(t, end, span));
}

function linksWhere(t: Timeline, isEnd: (span: number) => boolean): Link[] {
  const { from, to, kind, kinds } = t.links;
  const found: Link[] = [];
  for (let i = 0; i < from.length && found.length < MOST_LINKS; i++) {
    if (isEnd(from[i]) || isEnd(to[i])) found.push({ kind: kinds[kind[i]], from: from[i], to: to[i] });
  }
  return found;
}

function isInside(t: Timeline, inner: number, outer: number): boolean {
  if (inner <= outer || t.start[inner] < t.start[outer] || endOf(t, inner) > endOf(t, outer)) return false;
  return t.rows[rowOf(t, inner)].track === t.rows[rowOf(t, outer)].track;
}
