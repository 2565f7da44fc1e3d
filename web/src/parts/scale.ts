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
