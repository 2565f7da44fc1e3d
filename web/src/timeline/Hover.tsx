import { useEffect, useState } from "preact/hooks";
import { duration } from "../units";
import { clean } from "../words";
import type { Chart } from "./chart";
import { amount, valueAt } from "./drawmarks";
import type { Lane } from "./lanes";
import { nameOf, selfTime } from "./spans";
import { summaryOf } from "./spanfacts";
import { timeLabel } from "./window";

const BESIDE = 16; // CSS pixels from the pointer

export type At = { x: number; y: number } | null;

/** The line below the pointer with its time, and what is there. A component of its own, as it changes with each move. */
export function Hover({ chart, listen, left, top }: {
  chart: Chart;
  /** Called with what takes the pointer's place. */
  listen(show: (at: At) => void): void;
  left: number;
  top: number;
}) {
  const [at, show] = useState<At>(null);
  useEffect(() => listen(show), [listen]);
  if (!at) return null;
  const isRight = at.x > chart.width / 2;
  const isLow = at.y > chart.height / 2;
  const place = {
    ...(isRight ? { right: `${chart.width - at.x + BESIDE}px` } : { left: `${left + at.x + BESIDE}px` }),
    ...(isLow ? { bottom: `${chart.height - at.y + BESIDE}px` } : { top: `${top + at.y + BESIDE}px` }),
  };
  const words = wordsAt(chart, at);
  const precision = (chart.window.end - chart.window.start) / chart.width;
  return (
    <div class="tl-hover" aria-hidden="true">
      <div class={isRight ? "tl-line tl-left" : "tl-line"} style={{ left: `${left + at.x}px` }}>
        <span>{timeLabel(chart.timeAt(at.x), precision)}</span>
      </div>
      {words && (
        <div class="card tl-tip" style={place}>
          <b>{words[0]}</b>
          <small>{words[1]}</small>
        </div>
      )}
    </div>
  );
}

const MOST = 400; // characters of a name

function wordsAt(chart: Chart, { x, y }: { x: number; y: number }): [title: string, text: string] | null {
  const lane = chart.laneAt(y);
  if (lane?.kind === "memory" || lane?.kind === "counter") return curveAt(chart, lane, x);
  const span = chart.spanAt(x, y);
  if (span < 0) return null;
  const t = chart.timeline;
  return [clean(nameOf(t, span)).slice(0, MOST), `${summaryOf(t, span)} · self ${duration(selfTime(t, span))}`];
}

function curveAt(chart: Chart, lane: Lane & { index: number }, x: number): [title: string, text: string] | null {
  const value = valueAt(chart.scene(), lane, chart.timeAt(x));
  if (Number.isNaN(value)) return null;
  const { memory, counters } = chart.timeline;
  const title = lane.kind === "memory" ? `Memory ${memory[lane.index].device}` : counters[lane.index].name;
  return [clean(title), amount(chart.scene(), lane, value)];
}
