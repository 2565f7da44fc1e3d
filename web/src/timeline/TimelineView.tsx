import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Palette } from "../palette";
import { duration } from "../units";
import { Chart, type TimelineState } from "./chart";
import { Details } from "./Details";
import { TOP } from "./drawtop";
import type { Timeline } from "./format";
import { Hover, type At } from "./Hover";
import { act, Motion, TIMELINE_KEYS } from "./keys";
import type { Head } from "./lanes";
import { bindRows, bindTop } from "./pointer";
import { spoken } from "./spanfacts";
import { Toolbar } from "./Toolbar";
import { Totals } from "./Totals";

export interface TimelineProps {
  timeline: Timeline;
  palette: Palette;
  /** What lies in the page's address; `onState` is told what changed, at most some times a second. */
  state: TimelineState;
  onState(changed: TimelineState): void;
  /** Name of what is downloaded. */
  title: string;
}

/** All tracks of a window: zoom, search, select. */
export function TimelineView({ timeline, palette, state, onState, title }: TimelineProps) {
  const [, render] = useState({});
  const [words, say] = useState("");
  const [selects, setSelects] = useState(false);
  const latest = useRef({ onState, selects });
  latest.current = { onState, selects };
  const chart = useMemo(
    () => new Chart(timeline, palette, (changed) => latest.current.onState(changed), () => render({})),
    [timeline],
  );
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => chart.paintWith(palette), [chart, palette]);
  useEffect(() => chart.receive(state), [chart, state]);
  useEffect(() => say(chart.span < 0 ? "" : spoken(timeline, chart.span)), [chart, chart.span]);
  const keys = useKeys(chart, search, say);
  return (
    <section class="tl" aria-label="Timeline" {...keys}>
      <Toolbar {...{ chart, palette, search, selects, setSelects, title }} />
      <Canvases chart={chart} selects={() => latest.current.selects} />
      <div class="tl-live" aria-live="polite">
        {words}
      </div>
      <Details chart={chart} />
      <Totals chart={chart} />
    </section>
  );
}

/** Keys of the whole view, but for what is typed into a field. */
function useKeys(chart: Chart, search: { current: HTMLInputElement | null }, say: (words: string) => void) {
  const motion = useMemo(() => new Motion(chart), [chart]);
  useEffect(() => () => motion.stop(), [motion]);
  return {
    onKeyDown(event: KeyboardEvent) {
      const isTyped = event.target instanceof HTMLInputElement;
      const isButton = event.target instanceof HTMLElement && /^(BUTTON|SUMMARY)$/.test(event.target.tagName);
      if (isTyped || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isButton && event.key === "Enter") return;
      if (event.key === "/") search.current?.focus();
      else if (!motion.press(event.key) && !act(chart, event.key, say)) return;
      event.preventDefault();
    },
    onKeyUp: (event: KeyboardEvent) => motion.release(event.key),
    onFocusOut: () => motion.stop(),
  };
}

const GUTTER = 190; // CSS pixels
const NARROW = 110;

function Canvases({ chart, selects }: { chart: Chart; selects(): boolean }) {
  const top = useRef<HTMLCanvasElement>(null);
  const rows = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const hover = useRef<(at: At) => void>(() => {});
  const listen = useMemo(() => (show: (at: At) => void) => void (hover.current = show), []);
  const gutter = innerWidth < 700 ? NARROW : GUTTER;
  useEffect(() => {
    const events = { onHover: (at: At) => hover.current(at), selects };
    const ends = [
      chart.attach({ top: top.current!, rows: rows.current!, scroller: scroller.current! }),
      bindRows(chart, rows.current!, events),
      bindTop(chart, top.current!),
    ];
    return () => ends.forEach((end) => end());
  }, [chart]);
  return (
    <div class="tl-body" style={{ "--gutter": `${gutter}px` }}>
      <div class="tl-top">
        <Shown chart={chart} />
        <canvas ref={top} aria-hidden="true" />
      </div>
      <div class="tl-scroll" ref={scroller} onScroll={() => chart.draw()}>
        <div class="tl-content" style={{ height: `${chart.layout.height}px` }}>
          {chart.layout.heads.map((head) => (
            <HeadOf key={head.key} head={head} toggle={() => chart.toggle(head.key)} />
          ))}
          <canvas ref={rows} class="tl-rows" tabIndex={0} role="application" aria-label={INSTRUCTIONS} />
        </div>
      </div>
      <Hover chart={chart} listen={listen} left={gutter} top={TOP} />
    </div>
  );
}

const INSTRUCTIONS =
  "Timeline of all tracks. " +
  TIMELINE_KEYS.map(([keys, meaning]) => `${keys}: ${meaning}`).join(". ") +
  ". The table of totals below says the same in numbers.";

function Shown({ chart }: { chart: Chart }) {
  const { length, tracks } = chart.timeline;
  return (
    <div class="tl-corner">
      <b>{duration(length)}</b>
      <span>
        {chart.timeline.count.toLocaleString("en")} spans, {tracks.length} tracks
      </span>
    </div>
  );
}

function HeadOf({ head, toggle }: { head: Head; toggle(): void }) {
  const style = { top: `${head.y}px`, height: `${head.height}px` };
  const name = head.isSection ? "tl-head tl-section" : "tl-head";
  if (head.open === null) {
    return (
      <div class={name} style={style} title={head.hint}>
        <span>{head.title}</span>
      </div>
    );
  }
  return (
    <button type="button" class={name} style={style} title={head.hint} aria-expanded={head.open} onClick={toggle}>
      <span>{head.title}</span>
    </button>
  );
}
