import type { Chart } from "./chart";
import { OVERVIEW } from "./drawtop";

/** Mouse, pen, fingers and wheel on the timeline's canvases. */

const CLICK = 4; // CSS pixels a pointer may move in a click
const WHEEL = 0.0025; // zoom per pixel of the wheel
const LINE = 16; // pixels of a wheel that counts in lines

export interface PointerEvents {
  /** The pointer is over this place of the rows; null: it left. */
  onHover(at: { x: number; y: number } | null): void;
  /** Whether dragging selects a range even without the shift key. */
  selects(): boolean;
}

interface Drag {
  x: number;
  y: number;
  moved: boolean;
  /** Where the range begins; null: the drag moves the window. */
  range: number | null;
}

/** Listen on the rows until the returned function is called. */
export function bindRows(chart: Chart, canvas: HTMLCanvasElement, events: PointerEvents): () => void {
  const ending = new AbortController();
  const { signal } = ending;
  const fingers = new Map<number, PointerEvent>();
  let drag: Drag | null = null;

  const down = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    const selects = event.shiftKey || events.selects();
    drag = { x: event.offsetX, y: event.offsetY, moved: false, range: selects ? chart.timeAt(event.offsetX) : null };
  };
  const move = (event: PointerEvent): void => {
    if (fingers.size > 1) return pinch(event);
    if (!drag) return events.onHover({ x: event.offsetX, y: event.offsetY });
    const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < CLICK) return;
    events.onHover(null);
    if (drag.range !== null) chart.mark([drag.range, chart.timeAt(event.offsetX)]);
    else {
      chart.pan(-dx / chart.width);
      if (event.pointerType === "mouse") chart.scrollBy(-dy); // fingers scroll natively
    }
    drag = { ...drag, x: event.offsetX, y: event.offsetY, moved: true };
  };
  const pinch = (event: PointerEvent): void => {
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    const before = fingers.get(event.pointerId);
    if (!other || !before) return;
    const distance = (finger: PointerEvent): number => Math.max(8, Math.abs(finger.offsetX - other.offsetX));
    chart.zoom(distance(before) / distance(event), (event.offsetX + other.offsetX) / 2);
    fingers.set(event.pointerId, event);
  };
  const up = (event: PointerEvent): void => {
    fingers.delete(event.pointerId);
    if (drag && !drag.moved && event.type === "pointerup") chart.choose(chart.spanAt(event.offsetX, event.offsetY));
    drag = null;
  };
  canvas.addEventListener("pointerdown", down, { signal });
  canvas.addEventListener("pointermove", move, { signal });
  canvas.addEventListener("pointerup", up, { signal });
  canvas.addEventListener("pointercancel", up, { signal });
  canvas.addEventListener("pointerleave", () => events.onHover(null), { signal });
  canvas.addEventListener("wheel", (event) => wheel(chart, event), { signal, passive: false });
  canvas.addEventListener("dblclick", (event) => chart.fitSpan(chart.spanAt(event.offsetX, event.offsetY)), { signal });
  return () => ending.abort();
}

function wheel(chart: Chart, event: WheelEvent): void {
  const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1;
  const sideways = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
  if (event.ctrlKey || event.metaKey) chart.zoom(Math.exp(event.deltaY * unit * WHEEL), event.offsetX);
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) chart.pan((sideways * unit) / chart.width);
  else return; // the tracks scroll natively
  event.preventDefault();
}

/** The overview: drag what is visible. The ruler below it: drag to select a range. */
export function bindTop(chart: Chart, canvas: HTMLCanvasElement): () => void {
  const ending = new AbortController();
  const { signal } = ending;
  let dragged: ((x: number) => void) | null = null;
  canvas.addEventListener(
    "pointerdown",
    (event) => {
      canvas.setPointerCapture(event.pointerId);
      dragged = event.offsetY < OVERVIEW ? moving(chart, event.offsetX) : marking(chart, event.offsetX);
    },
    { signal },
  );
  canvas.addEventListener("pointermove", (event) => dragged?.(event.offsetX), { signal });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (dragged = null), { signal });
  canvas.addEventListener("wheel", (event) => wheel(chart, event), { signal, passive: false });
  return () => ending.abort();
}

function moving(chart: Chart, x: number): (x: number) => void {
  const time = chart.timeInOverview(x);
  const { start, end } = chart.window;
  if (time < start || time > end) chart.centre(time);
  const grip = time - (chart.window.start + chart.window.end) / 2;
  return (now) => chart.centre(chart.timeInOverview(now) - grip);
}

function marking(chart: Chart, x: number): (x: number) => void {
  const from = chart.timeAt(x);
  return (now) => chart.mark([from, chart.timeAt(now)]);
}
