import { useMemo } from "preact/hooks";
import { NoWindow } from "../parts/Recorded";
import { Waiting } from "../parts/Waiting";
import { useOfWindow, useShown } from "../shown";
import type { TimelineState } from "../timeline/chart";
import { decode, type Timeline } from "../timeline/format";
import { TimelineView } from "../timeline/TimelineView";
import type { Place } from "../url";

const MARGIN = 0.05; // of a step, to either side of it

export const useTimeline = () =>
  useOfWindow("timeline", async (source, run, window, signal) => decode(await source.timeline(run, window, signal)));

/** The timeline of the chosen window. */
export function TimelinePane() {
  const { window } = useShown();
  const timeline = useTimeline();
  return (
    <>
      <h1 class="sr">Timeline</h1>
      {window ? <Waiting of={timeline}>{(value) => <Drawn timeline={value} />}</Waiting> : <NoWindow />}
    </>
  );
}

function Drawn({ timeline }: { timeline: Timeline }) {
  const { palette, place, go, page, window } = useShown();
  const { start, end, span, search, range, step } = place;
  const state = useMemo(() => stateOf(place, timeline), [timeline, start, end, span, search, range, step]);
  return (
    <TimelineView
      timeline={timeline}
      palette={palette}
      state={state}
      onState={(changed) => go({ ...asPlace(changed), step: undefined })}
      title={`${page.report.name} window ${window!.window}`}
    />
  );
}

/** The chosen stretch of time. */
export function rangeOf(range: string | undefined): [start: number, end: number] | undefined {
  const [from, to] = range?.split("-").map(Number) ?? [];
  return Number.isFinite(from) && Number.isFinite(to) ? [from, to] : undefined;
}

/** What the address says; of a step alone, where that lies. */
function stateOf({ start, end, span, search, range, step }: Place, timeline: Timeline): TimelineState {
  const found =
    start === undefined && step !== undefined && timeline.steps.find(({ number }) => number === Number(step));
  const margin = found ? MARGIN * found.duration : 0;
  return {
    start: found ? found.start - margin : numberOf(start),
    end: found ? found.start + found.duration + margin : numberOf(end),
    span: numberOf(span),
    search,
    range: rangeOf(range),
  };
}

function asPlace({ start, end, span, search, range }: TimelineState): Place {
  const words = {
    start: rounded(start),
    end: rounded(end),
    span: rounded(span),
    search,
    range: range?.map(rounded).join("-"),
  };
  return words as Place;
}

const numberOf = (text: string | undefined): number | undefined =>
  text !== undefined && Number.isFinite(Number(text)) ? Number(text) : undefined;
const rounded = (value: number | undefined): string | undefined =>
  value === undefined ? undefined : `${Math.round(value)}`;
