import { count, duration, size } from "../units";
import { clean } from "../words";
import type { Timeline } from "./format";
import { trackPath } from "./lanes";
import { labelWord, nameOf, rowOf, selfTime, stepOf } from "./spans";

/** What is known of a span, in words. */

/** Name and value of each fact that is known. */
export function factsOf(t: Timeline, span: number): [name: string, value: string][] {
  const label = t.label[span];
  const detail = t.details[t.detail[span]] ?? {};
  const facts: [string, string | null | undefined][] = [
    ["Kind", labelWord(t, label, "kind")],
    ["Duration", duration(t.duration[span])],
    ["Self time", duration(selfTime(t, span))],
    ["Start", duration(t.start[span])],
    ["Step", stepOf(t, span)?.toString()],
    ["Phase", labelWord(t, label, "phase")],
    ["Class", labelWord(t, label, "op_class")],
    ["Track", trackOf(t, span)],
    ["Module", detail.module],
    ["Shapes", detail.shapes],
    ["Types", detail.dtypes],
    ["Source", detail.source],
    ["FLOPs", detail.flops === undefined ? null : count(detail.flops)],
    ["Bytes", detail.bytes === undefined ? null : size(detail.bytes)],
    ["Category", detail.category],
  ];
    return facts.flatMap(([name, value]) => (value ? [[name, clean(value)]] : []));
}

export const trackOf = (t: Timeline, span: number): string => trackPath(t, t.rows[rowOf(t, span)].track);

/** One line, for a hint and for screen readers. */
export function summaryOf(t: Timeline, span: number): string {
  const step = stepOf(t, span);
  const facts = [
    labelWord(t, t.label[span], "kind"),
    duration(t.duration[span]),
    `starts at ${duration(t.start[span])}`,
    step === null ? null : `step ${step}`,
  ];
  return facts.filter((fact) => fact !== null).join(" · ");
}

/** What a screen reader says of a span. */
export function spoken(t: Timeline, span: number): string {
  return `${clean(nameOf(t, span)).slice(0, 200)}: ${summaryOf(t, span)}, on ${trackOf(t, span)}`;
}
