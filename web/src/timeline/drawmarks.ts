import type { Scene, Surface } from "./scene";
import { placeOf } from "./scene";
import { endOf, rowOf, upperBound, type Link } from "./spans";
import { size } from "../units";
import { sampled } from "../words";
import { fontOf } from "./text";
import { lanesIn } from "./drawrows";
import type { Lane } from "./lanes";

/** What lies over the spans: borders of steps, the range, the selected span and its links; and the curves. */

const DENSEST = 12; // CSS pixels between borders of steps

export function drawMarks(scene: Scene, surface: Surface): void {
  drawSections(scene, surface);
  drawSteps(scene, surface);
  drawRange(scene, surface);
  if (scene.span >= 0) {
    for (const link of scene.links) drawLink(scene, surface, link);
    drawSelection(scene, surface);
  }
}

function drawSections(scene: Scene, { context, width, height }: Surface): void {
  context.fillStyle = scene.palette.page;
  for (const lane of lanesIn(scene.layout, scene.scroll, height)) {
    if (lane.kind === "section") context.fillRect(0, lane.y - scene.scroll, width, lane.height - 2);
  }
}

/** Steps that begin or end inside the window and are not too dense, with their places. */
export function stepsShown(scene: Scene, width: number, apart: number): { number: number | null; x: number }[] {
  const { timeline: t, window } = scene;
  const shown: { number: number | null; x: number }[] = [];
  let last = -Infinity;
  for (const { number, start } of t.steps) {
    const x = placeOf(start, window, width);
    if (x < 0 || x > width || x - last < apart) continue;
    shown.push({ number, x });
    last = x;
  }
  return shown;
}

function drawSteps(scene: Scene, { context, width, height }: Surface): void {
  context.fillStyle = scene.palette.muted;
  context.globalAlpha = 0.45;
  for (const { x } of stepsShown(scene, width, DENSEST)) context.fillRect(Math.round(x), 0, 1, height);
  context.globalAlpha = 1;
}

function drawRange({ range, window, palette }: Scene, { context, width, height }: Surface): void {
  if (!range) return;
  const [from, to] = range.map((time) => placeOf(time, window, width));
  context.fillStyle = palette.accent;
  context.globalAlpha = 0.12;
  context.fillRect(from, 0, to - from, height);
  context.globalAlpha = 1;
  context.fillRect(from, 0, 1, height);
  context.fillRect(to - 1, 0, 1, height);
}

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Where the span lies on the canvas, also outside it; null where its section is closed. */
export function boxOf(scene: Scene, width: number, span: number): Box | null {
  const { timeline: t, layout, window, scroll } = scene;
  const lane = layout.lanes[layout.laneOfRow[rowOf(t, span)]];
  if (!lane) return null;
  const left = placeOf(t.start[span], window, width);
  const right = Math.max(placeOf(endOf(t, span), window, width), left + 2);
  return { left, right, top: lane.y - scroll, bottom: lane.y - scroll + lane.height - 1 };
}

function drawSelection(scene: Scene, { context, width }: Surface): void {
  const box = boxOf(scene, width, scene.span);
  if (!box) return;
  const left = Math.max(box.left, -4);
  const right = Math.min(box.right, width + 4);
  if (right < left) return;
  context.lineWidth = 2;
  context.strokeStyle = scene.palette.text;
  context.strokeRect(left, box.top, right - left, box.bottom - box.top);
}

const EDGE = 7; // how far from the edge an arrow to something out of view lies

/** A curve from where the work was begun to where it was done, or to the edge in whose direction that lies. */
function drawLink(scene: Scene, { context, width, height }: Surface, { from, to }: Link): void {
  const source = boxOf(scene, width, from);
  const target = boxOf(scene, width, to);
  if (!source || !target) return;
  const [x, y] = [source.right <= target.left ? source.right : source.left, (source.top + source.bottom) / 2];
  const [endX, endY] = [target.left, (target.top + target.bottom) / 2];
  const inside = (at: number, limit: number): number => Math.min(Math.max(at, EDGE), limit - EDGE);
  const [x0, y0, x1, y1] = [inside(x, width), inside(y, height), inside(endX, width), inside(endY, height)];
  const bend = Math.max(24, Math.abs(x1 - x0) / 2);
  context.beginPath();
  context.moveTo(x0, y0);
  context.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
  context.lineWidth = 4; // a seam that sets it off from what is below
  context.strokeStyle = scene.palette.card;
  context.stroke();
  context.lineWidth = 1.5;
  context.strokeStyle = context.fillStyle = scene.palette.text;
  context.stroke();
  const away = endX !== x1 || endY !== y1 ? Math.atan2(endY - y1, endX - x1) : 0;
  arrow(context, x1, y1, away);
  if (x !== x0 || y !== y0) arrow(context, x0, y0, Math.atan2(y - y0, x - x0));
}

function arrow(context: CanvasRenderingContext2D, x: number, y: number, angle: number): void {
  context.save();
  context.translate(x, y);
  context.rotate(angle);
  context.beginPath();
  context.moveTo(1, 0);
  context.lineTo(-7, -4);
  context.lineTo(-7, 4);
  context.fill();
  context.restore();
}

/** A curve of steps: memory or a counter. */
interface Series {
  time: ArrayLike<number>;
  value: ArrayLike<number>;
  line: ArrayLike<number> | null;
  color: string;
}

function seriesOf({ timeline: t, palette }: Scene, lane: Lane & { index: number }): Series {
  if (lane.kind === "memory") {
    const { time, allocated, reserved } = t.memory[lane.index];
    return { time, value: allocated, line: reserved, color: palette.tones.forward };
  }
  const { time_ns, value } = t.counters[lane.index];
  return { time: time_ns, value, line: null, color: palette.tones.host };
}

const greatest = (values: ArrayLike<number>): number => {
  let most = 0;
  for (let i = 0; i < values.length; i++) if (values[i] > most) most = values[i];
  return most;
};

export function drawAreas(scene: Scene, surface: Surface): void {
  for (const lane of lanesIn(scene.layout, scene.scroll, surface.height)) {
    if (lane.kind === "memory" || lane.kind === "counter") drawArea(scene, surface, lane);
  }
}

function drawArea(scene: Scene, { context, width }: Surface, lane: Lane & { index: number }): void {
  const series = seriesOf(scene, lane);
  const most = Math.max(greatest(series.value), series.line ? greatest(series.line) : 0) || 1;
  const bottom = lane.y - scene.scroll + lane.height;
  const rise = (lane.height - 12) / most;
  context.fillStyle = series.color;
  context.globalAlpha = 0.55;
  fillSteps(scene, context, width, series.time, series.value, (value) => bottom - value * rise, bottom);
  context.globalAlpha = 1;
  if (series.line) {
    context.fillStyle = scene.palette.muted;
    fillSteps(scene, context, width, series.time, series.line, (value) => bottom - value * rise, null);
  }
  context.font = fontOf(10);
  context.fillStyle = scene.palette.muted;
  context.textBaseline = "top";
  context.fillText(`max ${amount(scene, lane, greatest(series.value))}`, 4, lane.y - scene.scroll);
}

/** Each value holds until the next; of several in one pixel the largest is drawn. Without a `base` as a line. */
function fillSteps(
  { window }: Scene,
  context: CanvasRenderingContext2D,
  width: number,
  time: ArrayLike<number>,
  values: ArrayLike<number>,
  heightOf: (value: number) => number,
  base: number | null,
): void {
  let i = Math.max(0, upperBound(time, 0, time.length, window.start) - 1);
  while (i < time.length && time[i] <= window.end) {
    const x = Math.max(0, Math.floor(placeOf(time[i], window, width)));
    let most = values[i];
    let next = i + 1;
    while (next < time.length && placeOf(time[next], window, width) < x + 1) most = Math.max(most, values[next++]);
    const stop = next < time.length ? Math.min(width, Math.floor(placeOf(time[next], window, width))) : x + 1;
    const y = heightOf(most);
    if (most === most) context.fillRect(x, y, Math.max(1, stop - x), base === null ? 1 : base - y);
    i = next;
  }
}

/** A value of a curve with its unit. */
export function amount({ timeline: t }: Scene, lane: Lane & { index: number }, value: number): string {
  return lane.kind === "memory" ? size(value) : sampled(t.counters[lane.index].name, value);
}

/** The value of a curve at a time, or NaN before its first. */
export function valueAt(scene: Scene, lane: Lane & { index: number }, time: number): number {
  const series = seriesOf(scene, lane);
  const i = upperBound(series.time, 0, series.time.length, time) - 1;
  return i < 0 ? NaN : series.value[i];
}
