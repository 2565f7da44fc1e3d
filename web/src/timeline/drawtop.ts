import { stepsShown } from "./drawmarks";
import { cellsOf, cover, paint } from "./raster";
import { placeOf, type Scene, type Surface } from "./scene";
import { fontOf } from "./text";
import { pixelOf } from "./tone";
import { ticksOf, timeLabel } from "./window";

/** What lies above the tracks: the whole timeline with its visible part, and a ruler. */

export const OVERVIEW = 40; // CSS pixels, as all heights here
export const TOP = OVERVIEW + 36;
const TICKS = OVERVIEW + 11;
const NUMBERS = OVERVIEW + 27;
const APART = 100; // of ticks
const MOST_TRACKS = 16;
const PADDING = 3;

/** All of the timeline as a small picture: each track one line, the inner spans over the outer ones. */
export function overviewOf(scene: Scene, { context, width, ratio }: Surface): ImageData {
  const { timeline: t, layout, palette } = scene;
  const image = context.createImageData(Math.round(width * ratio), Math.round(OVERVIEW * ratio));
  const pixels = new Uint32Array(image.data.buffer).fill(pixelOf(palette.page));
  const tracks = new Set(layout.lanes.flatMap((lane) => (lane.kind === "rows" ? [lane.track] : [])));
  const shown = [...tracks].slice(0, MOST_TRACKS);
  const thick = Math.min(8 * ratio, Math.floor((image.height - 2 * PADDING * ratio) / Math.max(shown.length, 1)));
  const cells = cellsOf(image.width);
  shown.forEach((track, place) => {
    const first = (PADDING * ratio + place * thick) * image.width;
    const line = pixels.subarray(first, first + image.width);
    for (const row of t.rows) {
      if (row.track !== track) continue;
      cover(t, scene.blocks, row, 0, Math.max(t.length, 1), cells);
      paint(t, cells, scene.colours, line);
    }
    for (let y = 1; y < thick - 1; y++) pixels.copyWithin(first + y * image.width, first, first + image.width);
  });
  return image;
}

export function drawTop(scene: Scene, surface: Surface, overview: ImageData): void {
  const { context, width, height } = surface;
  context.fillStyle = scene.palette.card;
  context.fillRect(0, 0, width, height);
  context.putImageData(overview, 0, 0);
  drawPart(scene, surface);
  drawTicks(scene, surface);
  drawNumbers(scene, surface);
}

/** Veil what is not visible, and frame what is. */
function drawPart({ timeline: t, window, range, palette }: Scene, { context, width }: Surface): void {
  const whole = { start: 0, end: Math.max(t.length, 1) };
  const from = placeOf(window.start, whole, width);
  const to = Math.max(placeOf(window.end, whole, width), from + 3);
  context.fillStyle = palette.card;
  context.globalAlpha = 0.65;
  context.fillRect(0, 0, from, OVERVIEW);
  context.fillRect(to, 0, width - to, OVERVIEW);
  context.globalAlpha = 1;
  context.strokeStyle = palette.accent;
  context.lineWidth = 1.5;
  context.strokeRect(from + 0.75, 0.75, Math.max(2, to - from - 1.5), OVERVIEW - 1.5);
  if (!range) return;
  const [begin, end] = range.map((time) => placeOf(time, whole, width));
  context.fillStyle = palette.accent;
  context.globalAlpha = 0.3;
  context.fillRect(begin, 0, Math.max(1, end - begin), OVERVIEW);
  context.globalAlpha = 1;
}

function drawTicks({ window, palette }: Scene, { context, width }: Surface): void {
  context.font = fontOf(11);
  context.textBaseline = "middle";
  const ticks = ticksOf(window, ((window.end - window.start) / width) * APART);
  for (const time of ticks) {
    const x = placeOf(time, window, width);
    context.fillStyle = palette.line;
    context.fillRect(Math.round(x), OVERVIEW + 4, 1, 14);
    context.fillStyle = palette.muted;
    context.fillText(timeLabel(time, ticks[1] - ticks[0] || 1), x + 4, TICKS);
  }
}

function drawNumbers(scene: Scene, { context, width, height }: Surface): void {
  context.font = fontOf(10, 600);
  for (const { number, x } of stepsShown(scene, width, 46)) {
    context.fillStyle = scene.palette.muted;
    context.fillRect(Math.round(x), OVERVIEW + 20, 1, height);
    context.fillStyle = scene.palette.text;
    if (number !== null) context.fillText(`step ${number}`, x + 4, NUMBERS);
  }
  drawRange(scene, context, width);
}

function drawRange({ range, window, palette }: Scene, context: CanvasRenderingContext2D, width: number): void {
  if (!range) return;
  const [from, to] = range.map((time) => placeOf(time, window, width));
  context.fillStyle = palette.accent;
  context.globalAlpha = 0.2;
  context.fillRect(from, OVERVIEW, to - from, TOP - OVERVIEW);
  context.globalAlpha = 1;
}
