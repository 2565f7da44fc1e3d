import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Palette } from "../palette";
import { counted, duration, percent } from "../units";
import { clean } from "../words";
import { calledBy, callersOf, callTree, frameName, hostTracks, placesOf, type CallTree, type Place } from "./calltree";
import type { Timeline } from "./format";
import { trackTitle } from "./lanes";
import { surfaceOf } from "./scene";
import { complaint, patternOf, wordsFound } from "./search";
import { fitted, fontOf } from "./text";
import { coloursOf, type Colours } from "./tone";

export interface FlameProps {
  timeline: Timeline;
  palette: Palette;
  /** A part of the time to choose, such as the timeline's range. */
  range?: [start: number, end: number] | undefined;
  /** Show the spans of this name elsewhere. */
  onPick(name: string): void;
}

const ROW = 20; // CSS pixels
const ALL = -1;

/** Where the time went on the host: each frame as wide as its time, what it called below it. */
export function FlameGraph({ timeline: t, palette, range, onPick }: FlameProps) {
  const tracks = useMemo(() => hostTracks(t), [t]);
  const [track, setTrack] = useState(() => (tracks.includes(t.trainingTrack ?? ALL) ? t.trainingTrack! : ALL));
  const [part, setPart] = useState("");
  const [search, look] = useState("");
  const [top, zoom] = useState(0);
  const [start, end] = timesOf(t, part, range);
  const tree = useMemo(
    () => callTree(t, track === ALL ? tracks : [track], start, end),
    [t, tracks, track, start, end],
  );
  const shown = tree.sums.total[top] ? top : 0;
  if (!tracks.length) return <p>No thread of the host was recorded.</p>;
  return (
    <section class="fg" aria-label="Flame graph">
      <div class="bar">
        <select aria-label="Threads" value={track} onChange={(event) => setTrack(Number(event.currentTarget.value))}>
          <option value={ALL}>All threads</option>
          {tracks.map((place) => (
            <option key={place} value={place}>
              {trackTitle(t.tracks[place]).slice(0, 80)}
            </option>
          ))}
        </select>
        <Parts t={t} part={part} range={range} choose={setPart} />
        <input
          type="search"
          class="search"
          placeholder="Highlight, e.g. conv|linear"
          aria-label="Highlight names, a regular expression"
          value={search}
          onInput={(event) => look(event.currentTarget.value)}
        />
        <output class="muted">{complaint(search)}</output>
      </div>
      <nav class="fg-path" aria-label="Callers">
        {callersOf(tree, shown).map((frame) => (
          <button key={frame} disabled={frame === shown} onClick={() => zoom(frame)}>
            {clean(frameName(t, tree, frame)).slice(0, 60)}
          </button>
        ))}
      </nav>
      <Icicle {...{ t, palette, tree, search, zoom, onPick }} top={shown} />
    </section>
  );
}

function timesOf(t: Timeline, part: string, range: FlameProps["range"]): [start: number, end: number] {
  if (part === "range" && range) return range;
  const step = part ? t.steps[Number(part)] : undefined;
  return step ? [step.start, step.start + step.duration] : [0, t.length];
}

interface PartsProps {
  t: Timeline;
  part: string;
  range: FlameProps["range"];
  choose(part: string): void;
}

function Parts({ t, part, range, choose }: PartsProps) {
  return (
    <select aria-label="Time" value={part} onChange={(event) => choose(event.currentTarget.value)}>
      <option value="">Whole window</option>
      {range && <option value="range">Selected range, {duration(range[1] - range[0])}</option>}
      {t.steps.map((step, place) => (
        <option key={place} value={place}>
          Step {step.number}, {duration(step.duration)}
        </option>
      ))}
    </select>
  );
}

interface IcicleProps {
  t: Timeline;
  palette: Palette;
  tree: CallTree;
  search: string;
  /** The frame that fills the width. */
  top: number;
  zoom(frame: number): void;
  onPick(name: string): void;
}

function Icicle({ t, palette, tree, search, top, zoom, onPick }: IcicleProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useWidth(canvas);
  const [focus, setFocus] = useState(top);
  const [hovered, hover] = useState(-1);
  useEffect(() => setFocus(top), [tree, top]);
  const colours = useMemo(() => coloursOf(t, palette), [t, palette]);
  const found = useMemo(() => foundIn(t, search), [t, search]);
  const places = useMemo(() => placesOf(tree, top, 1 / width), [tree, top, width]);
  const drawing = { t, palette, tree, places, colours, found, focus, hovered };
  useEffect(() => draw(canvas.current!, width, drawing));
  const frameAt = ({ offsetX, offsetY }: MouseEvent): number => {
    const [x, depth] = [offsetX / width, Math.floor(offsetY / ROW)];
    return places.find((at) => at.depth === depth && x >= at.left && x < at.left + at.width)?.frame ?? -1;
  };
  const pick = (frame: number): void => {
    if (frame < 0) return;
    setFocus(frame);
    zoom(frame);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter") pick(focus);
    else if (event.key === "Escape" || event.key === "Backspace") zoom(Math.max(tree.paths.caller[top], 0));
    else if (event.key.startsWith("Arrow")) setFocus(neighbour(tree, focus, top, event.key));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const told = hovered >= 0 ? hovered : focus;
  return (
    <>
      <canvas
        ref={canvas}
        class="fg-frames"
        tabIndex={0}
        role="application"
        aria-label="Flame graph. Arrow keys: to caller, called and neighbours. Enter: zoom into it. Escape: zoom out."
        onKeyDown={onKeyDown}
        onClick={(event) => pick(frameAt(event))}
        onMouseMove={(event) => hover(frameAt(event))}
        onMouseLeave={() => hover(-1)}
      />
      <div class="fg-facts">
        <p aria-live={hovered >= 0 ? "off" : "polite"}>
          <b>{clean(frameName(t, tree, told)).slice(0, 2_000)}</b> {factsOf(tree, told)}
        </p>
        {focus > 0 && (
          <button onClick={() => onPick(frameName(t, tree, focus))}>
            Show {clean(frameName(t, tree, focus)).slice(0, 40)} in the timeline
          </button>
        )}
      </div>
    </>
  );
}

function useWidth(canvas: { current: HTMLCanvasElement | null }): number {
  const [width, setWidth] = useState(800);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(1, Math.floor(entry.contentRect.width))));
    observer.observe(canvas.current!.parentElement!);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** Of each word whether it is highlighted; null: nothing is looked for. */
function foundIn(t: Timeline, search: string): boolean[] | null {
  const pattern = complaint(search) === null ? patternOf(search) : null;
  return pattern && wordsFound(t.words, pattern);
}

function factsOf({ sums, paths }: CallTree, frame: number): string {
  const share = percent(sums.total[frame] / (sums.total[0] || 1));
  const total = `total ${duration(sums.total[frame])}, ${share}`;
  if (frame === 0) return total;
  const caller = paths.caller[frame];
  const ofCaller = caller > 0 ? `, ${percent(sums.total[frame] / sums.total[caller])} of its caller` : "";
  return `${total}${ofCaller} · self ${duration(sums.self[frame])} · ${counted(sums.calls[frame], "call")}`;
}

/** The frame that an arrow key leads to. */
function neighbour(tree: CallTree, frame: number, top: number, key: string): number {
  if (key === "ArrowDown") return calledBy(tree, frame)[0] ?? frame;
  const caller = tree.paths.caller[frame];
  if (frame === top) return frame;
  if (key === "ArrowUp") return caller;
  const siblings = calledBy(tree, caller);
  const next = siblings[siblings.indexOf(frame) + (key === "ArrowLeft" ? -1 : 1)];
  return next !== undefined && tree.sums.total[next] ? next : frame;
}

interface Drawing {
  t: Timeline;
  palette: Palette;
  tree: CallTree;
  places: Place[];
  colours: Colours;
  found: boolean[] | null;
  focus: number;
  hovered: number;
}

function draw(canvas: HTMLCanvasElement, width: number, drawing: Drawing): void {
  const { palette, places, focus, hovered } = drawing;
  const height = ROW * (1 + places.reduce((deepest, { depth }) => Math.max(deepest, depth), 0));
  const { context } = surfaceOf(canvas, width, height);
  context.fillStyle = palette.card;
  context.fillRect(0, 0, width, height);
  context.font = fontOf(11);
  context.textBaseline = "middle";
  for (const place of places) {
    drawFrame(context, width, drawing, place);
    if (place.frame !== focus && place.frame !== hovered) continue;
    context.lineWidth = 2;
    context.strokeStyle = palette.text;
    context.strokeRect(place.left * width + 1, place.depth * ROW + 1, Math.max(1, place.width * width - 2), ROW - 3);
  }
}

function drawFrame(
  context: CanvasRenderingContext2D,
  total: number,
  { t, palette, tree, colours, found }: Drawing,
  { frame, left, width, depth }: Place,
): void {
  const label = tree.paths.label[frame];
  const [x, y, room] = [left * total, depth * ROW, width * total];
  const isDimmed = found !== null && frame > 0 && !found[t.labels.name[label]];
  context.globalAlpha = isDimmed ? 0.16 : 1;
  context.fillStyle = frame ? colours.css[label] : palette.line;
  context.fillRect(x, y, Math.max(1, room - 0.6), ROW - 1);
  context.globalAlpha = 1;
  if (room < 28) return;
  context.fillStyle = isDimmed ? palette.muted : frame ? palette.ink : palette.text;
  context.fillText(fitted(context, frameName(t, tree, frame), room - 8), x + 4, y + ROW / 2);
}
