import type { BatchSeries } from "../data/types";

export interface Bar {
  at: number; // place of the batch in the series
  start: number; // nanoseconds since the run's beginning
  duration: number;
}

export interface Lane {
  worker: number | null; // null: the training process
  bars: Bar[];
}

/** The fetches of each worker. */
export function lanesOf({ worker, fetch_start_ns, fetch_ns }: BatchSeries): Lane[] {
  const lanes = new Map<number | null, Bar[]>();
  fetch_start_ns.forEach((start, at) => {
    const duration = fetch_ns[at];
    if (start === null || duration === null) return;
    const bars = lanes.get(worker[at]) ?? [];
    bars.push({ at, start, duration });
    lanes.set(worker[at], bars);
  });
  return [...lanes]
    .map(([worker, bars]): Lane => ({ worker, bars: bars.sort((a, b) => a.start - b.start) }))
    .sort((a, b) => (a.worker ?? -1) - (b.worker ?? -1));
}

/** From the first to the last moment of the last `wanted` batches. */
export function stretchOf({ asked_ns, wait_ns }: BatchSeries, wanted: number): [from: number, to: number] {
  const first = Math.max(0, asked_ns.length - wanted);
  const last = asked_ns.length - 1;
  return [asked_ns[first] ?? 0, (asked_ns[last] ?? 0) + (wait_ns[last] ?? 0)];
}
