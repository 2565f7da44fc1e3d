import { lowerBound } from "../timeline/spans";

/** Multiples of a round step from `low` to `high`, about `wanted` of them; of a power of two where `binary`. */
export function ticksOf(low: number, high: number, wanted: number, binary = false): number[] {
  const rough = (high - low) / Math.max(wanted, 1) || 1;
  const power = binary ? 2 ** Math.ceil(Math.log2(rough)) : 10 ** Math.floor(Math.log10(rough));
  const step = binary ? power : power * [1, 2, 5, 10].find((factor) => factor * power >= rough)!;
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(n * step);
  return ticks;
}

/** Place of what is nearest to `value` in a sorted list. */
export function nearest(sorted: number[], value: number): number {
  const behind = Math.min(lowerBound(sorted, 0, sorted.length, value), sorted.length - 1);
  return behind > 0 && value - sorted[behind - 1] < sorted[behind] - value ? behind - 1 : behind;
}

/** The middle of the values; 0 where there is none. */
export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : ((sorted[half - 1] ?? 0) + (sorted[half] ?? 0)) / 2;
}
