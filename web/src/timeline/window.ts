/** The part of the timeline that is seen: times in nanoseconds since the trace's beginning. */
export interface Window {
  start: number;
  end: number;
}

const SHORTEST = 20; // nanoseconds
const MARGIN = 0.06; // around what is fitted

/** The same width, moved to lie inside 0 to `length`. */
export function clamped({ start, end }: Window, length: number): Window {
  const width = Math.min(Math.max(end - start, Math.min(SHORTEST, length)), Math.max(length, 1));
  const from = Math.min(Math.max(start, 0), Math.max(length, 1) - width);
  return { start: from, end: from + width };
}

/** `factor` times as much time, with that at `share` of the width staying where it is. */
export function zoomed(window: Window, factor: number, share: number, length: number): Window {
  const width = window.end - window.start;
  const wider = Math.min(Math.max(width * factor, SHORTEST), Math.max(length, 1));
  const start = window.start + (width - wider) * share;
  return clamped({ start, end: start + wider }, length);
}

/** Moved by `share` of the width. */
export function panned({ start, end }: Window, share: number, length: number): Window {
  const move = (end - start) * share;
  return clamped({ start: start + move, end: end + move }, length);
}

/** What shows all of these times. */
export function fitting(start: number, end: number, length: number): Window {
  const margin = Math.max((end - start) * MARGIN, SHORTEST / 2);
  return clamped({ start: start - margin, end: end + margin }, length);
}

/** Times of a ruler's ticks, at least `apart` nanoseconds from each other, and at least one. */
export function ticksOf({ start, end }: Window, apart: number): number[] {
  const power = 10 ** Math.max(0, Math.floor(Math.log10(apart)));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= apart)!;
  const ticks = [];
  for (let n = Math.ceil(start / step); n * step <= end; n++) ticks.push(n * step);
  return ticks;
}

const UNITS: [name: string, nanoseconds: number][] = [
  ["s", 1e9],
  ["ms", 1e6],
  ["µs", 1e3],
  ["ns", 1],
];

/** A time on the ruler, with as many digits as tell apart times `precision` nanoseconds from each other. */
export function timeLabel(time: number, precision: number): string {
  const [unit, size] = UNITS.find(([, nanoseconds]) => Math.abs(time) >= nanoseconds) ?? ["s", 1e9];
  const digits = Math.min(9, Math.max(0, Math.ceil(Math.log10(size / precision) - 1e-9)));
  return `${(time / size).toFixed(time ? digits : 0)} ${unit}`;
}
