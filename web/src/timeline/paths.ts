import type { Timeline } from "./format";
import { isNested, lowerBound, upperBound } from "./spans";

/**
 * The distinct call paths of a timeline: which names called which, merged over all tracks. Each span belongs to one;
 * what a framework calls around the work belongs to its caller's. Sums over any part of the timeline are then one
 * pass over the spans, and self time is a path's time less that of the paths below it.
 */
export interface Paths {
  /** Path of each span; 0 is the root, which nothing has as its own but internals without a caller. */
  of: Int32Array;
  /** Of each path: the one it was called from, always of a lower number. */
  caller: number[];
  /** Of each path: the label of its first span. */
  label: number[];
  /** Of each path: the first of all labels with its name and kind. */
  name: number[];
  /** Of each path: 1 where nothing above it has the same name and kind, so that recursion counts once. */
  outermost: number[];
}

const known = new WeakMap<Timeline, Paths>();

export function pathsOf(t: Timeline): Paths {
  let paths = known.get(t);
  if (!paths) known.set(t, (paths = build(t)));
  return paths;
}

function build(t: Timeline): Paths {
  const paths: Paths = { of: new Int32Array(t.count), caller: [-1], label: [-1], name: [-1], outermost: [1] };
  const names = identities(t);
  const children = new Map<number, number>();
  t.rows.forEach((row, place) => {
    const above = isNested(t.rows[place - 1], row) ? t.rows[place - 1] : null;
    let parent = above ? above.first : -1;
    for (let i = row.first; i < row.first + row.count; i++) {
      if (above) while (parent + 1 < above.first + above.count && t.start[parent + 1] <= t.start[i]) parent++;
      const caller = parent < 0 ? 0 : paths.of[parent];
      paths.of[i] = t.labels.internal[t.label[i]] ? caller : child(paths, children, names, caller, t.label[i]);
    }
  });
  return paths;
}

/** Of each label: the first that has the same name and kind. */
function identities(t: Timeline): Int32Array {
  const first = new Map<string, number>();
  return Int32Array.from(t.labels.name, (name, label) => {
    const key = `${name} ${t.labels.kind[label]}`;
    if (!first.has(key)) first.set(key, label);
    return first.get(key)!;
  });
}

function child(
  paths: Paths,
  children: Map<number, number>,
  names: Int32Array,
  caller: number,
  label: number,
): number {
  const key = caller * names.length + names[label];
  let path = children.get(key);
  if (path === undefined) {
    path = paths.caller.length;
    children.set(key, path);
    paths.caller.push(caller);
    paths.label.push(label);
    paths.name.push(names[label]);
    paths.outermost.push(isOutermost(paths, caller, names[label]) ? 1 : 0);
  }
  return path;
}

function isOutermost(paths: Paths, caller: number, name: number): boolean {
  for (let path = caller; path > 0; path = paths.caller[path]) if (paths.name[path] === name) return false;
  return true;
}

/** Sums per path over a part of the timeline. Times are nanoseconds. */
export interface Sums {
  spans: number;
  calls: Float64Array;
  total: Float64Array;
  self: Float64Array;
}

/** Sums over the spans of `tracks` (null: all) between the times `start` and `end`, clipped to them. */
export function sumsOf(t: Timeline, tracks: ReadonlySet<number> | null, start: number, end: number): Sums {
  const paths = pathsOf(t);
  const count = paths.caller.length;
  const sums = { spans: 0, calls: new Float64Array(count), total: new Float64Array(count), self: new Float64Array(count) };
  for (const row of t.rows) {
    if (!tracks || tracks.has(row.track)) addRow(t, paths, sums, row.first, row.first + row.count, start, end);
  }
  sums.self.set(sums.total);
  for (let path = count - 1; path > 0; path--) sums.self[paths.caller[path]] -= sums.total[path];
  return sums;
}

function addRow(t: Timeline, paths: Paths, sums: Sums, first: number, last: number, start: number, end: number): void {
  const { label, duration, start: starts } = t;
  const from = Math.max(first, lowerBound(starts, first, last, start) - 1);
  const to = upperBound(starts, from, last, end);
  for (let i = from; i < to; i++) {
    const inside = Math.min(starts[i] + duration[i], end) - Math.max(starts[i], start);
    const touches = inside < 0 || (inside === 0 && duration[i] > 0);
    if (touches || t.labels.internal[label[i]]) continue;
    const path = paths.of[i];
    sums.spans++;
    sums.calls[path]++;
    sums.total[path] += inside;
  }
}

/** What spans of one name and kind took. */
export interface Total {
  label: number;
  calls: number;
  total: number;
  self: number;
}

/** The sums per name and kind, the largest self time first. */
export function totalsOf(t: Timeline, sums: Sums): Total[] {
  const paths = pathsOf(t);
  const found = new Map<number, Total>();
  for (let path = 1; path < paths.caller.length; path++) {
    if (!sums.calls[path]) continue;
    const label = paths.name[path];
    let sum = found.get(label);
    if (!sum) found.set(label, (sum = { label, calls: 0, total: 0, self: 0 }));
    sum.calls += sums.calls[path];
    sum.self += sums.self[path];
    if (paths.outermost[path]) sum.total += sums.total[path];
  }
  return [...found.values()].sort((a, b) => b.self - a.self || b.total - a.total);
}
