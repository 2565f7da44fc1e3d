import type { TimelineState } from "../timeline/chart";

/** What is seen of the timeline: `start_end_span_from_to`, each of them a number or nothing. */
export function stateOf(seen: string | undefined, search: string | undefined): TimelineState {
  const numbers = (seen ?? "").split("_").map((word) => (/^\d+$/.test(word) ? Number(word) : undefined));
  const [start, end, span, from, to] = numbers;
  return { start, end, span, search, range: from !== undefined && to !== undefined ? [from, to] : undefined };
}

export function placeOf({ start, end, span, search, range }: TimelineState) {
  const seen = [start, end, span, ...(range ?? [])].map((value) => (value === undefined ? "" : Math.round(value)));
  return { seen: seen.join("_").replace(/_+$/, "") || undefined, search };
}
