import { useEffect, useMemo, useState } from "preact/hooks";
import { column, Table, type Column } from "../parts/Table";
import { counted, duration, count, percent } from "../units";
import { clean, literal, MEANINGS, plain } from "../words";
import type { Chart } from "./chart";
import type { Timeline } from "./format";
import { sumsOf, totalsOf, type Total } from "./paths";
import { labelWord } from "./spans";

const SETTLED = 150; // milliseconds without a change, as summing up a million spans takes longer than a frame
const LONGEST = 300; // characters of a name

/** What the spans of the range, or of the whole timeline, took by name. */
export function Totals({ chart }: { chart: Chart }) {
  const [isOpen, open] = useState(false);
  const range = useSettled(chart.range);
  const isShown = isOpen || !!range;
  return (
    <details class="card" open={isShown} onToggle={(event) => open(event.currentTarget.open)}>
      <summary>{range ? `Totals of the range of ${duration(range[1] - range[0])}` : "Totals of the whole window"}</summary>
      {isShown && <Sums chart={chart} start={range?.[0] ?? 0} end={range?.[1] ?? chart.timeline.length} />}
    </details>
  );
}

/** The value, once it no longer changes. */
function useSettled<Value>(value: Value): Value {
  const [settled, settle] = useState(value);
  useEffect(() => {
    const waiting = setTimeout(() => settle(value), SETTLED);
    return () => clearTimeout(waiting);
  }, [value]);
  return settled;
}

function Sums({ chart, start, end }: { chart: Chart; start: number; end: number }) {
  const t = chart.timeline;
  const [spans, totals] = useMemo((): [number, Total[]] => {
    const sums = sumsOf(t, workTracks(t), start, end);
    return [sums.spans, totalsOf(t, sums)];
  }, [t, start, end]);
  const columns = useMemo(() => columnsOf(chart, end - start), [chart, start, end]);
  return (
    <>
      <p class="muted">
        {counted(spans, "span")} in {duration(end - start)}, clipped to it. Threads and devices work at once: shares may
        add up to more than 100 %.
      </p>
      <Table caption="Totals by name" columns={columns} rows={totals} />
    </>
  );
}

/** All tracks but those of the steps, which hold no work of their own. */
const workTracks = (t: Timeline): Set<number> =>
  new Set([...t.tracks.keys()].filter((track) => t.tracks[track].kind !== "steps"));

function columnsOf(chart: Chart, length: number): Column<Total>[] {
  const word = (total: Total, of: "name" | "kind" | "op_class"): string => labelWord(chart.timeline, total.label, of) ?? "";
  const shareOf = (total: Total): number => total.self / (length || 1);
  return [
    column("name", "Name", (total) => clean(word(total, "name")).slice(0, LONGEST), (name, total) => (
      <button class="link" onClick={() => chart.look(literal(word(total, "name")))}>
        {name}
      </button>
    )),
    column("class", "Class", (total) => word(total, "op_class") || plain(word(total, "kind"))),
    column("calls", "Calls", (total) => total.calls, count),
    column("total", "Total", (total) => total.total, duration, { meaning: MEANINGS.total }),
    column("self", "Self", (total) => total.self, duration, { meaning: MEANINGS.self, share: shareOf }),
    column("share", "Self, of the range", shareOf, percent),
  ];
}
