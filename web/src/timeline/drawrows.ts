import { pixelOf } from "./tone";
import { cellsOf, cover, paint, type Cells } from "./raster";
import type { Lane, Layout } from "./lanes";
import type { Scene, Surface } from "./scene";
import { nameOf } from "./spans";
import { fitted, fontOf } from "./text";

/** The spans themselves: one line of pixels per lane, copied downwards, and names on the boxes that hold them. */

const NARROWEST_TEXT = 36; // CSS pixels
const SPACING = 4; // left of a name

interface Box {
  span: number;
  from: number; // device pixels
  to: number;
  y: number; // CSS pixels
}

/** Pixels that are kept from frame to frame. */
export class RowPainter {
  #image: ImageData | null = null;
  #pixels = new Uint32Array();
  #cells: Cells = cellsOf(0);

  draw(scene: Scene, surface: Surface): void {
    const { canvas } = surface.context;
    if (this.#image?.width !== canvas.width || this.#image.height !== canvas.height) this.#resize(surface.context);
    this.#pixels.fill(pixelOf(scene.palette.card));
    const boxes: Box[] = [];
    for (const lane of lanesIn(scene.layout, scene.scroll, surface.height)) {
      if (lane.kind === "rows") this.#drawLane(scene, surface, lane, boxes);
    }
    surface.context.putImageData(this.#image!, 0, 0);
    drawNames(scene, surface, boxes);
  }

  #resize(context: CanvasRenderingContext2D): void {
    const { width, height } = context.canvas;
    this.#image = context.createImageData(width, height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
    this.#cells = cellsOf(width);
  }

  #drawLane(scene: Scene, { ratio }: Surface, lane: Lane & { kind: "rows" }, boxes: Box[]): void {
    const { timeline: t, blocks, window } = scene;
    const { width, height } = this.#image!;
    const y = lane.y - scene.scroll;
    const top = Math.max(0, Math.round(y * ratio));
    const bottom = Math.min(height, Math.round((y + lane.height - 1) * ratio));
    if (bottom <= top) return;
    const first = top * width;
    const line = this.#pixels.subarray(first, first + width);
    const isWhole = lane.rows.length === 1; // names would hide each other where rows share a line
    const onBox = (span: number, from: number, to: number): void => {
      if (isWhole && to - from >= NARROWEST_TEXT * ratio) boxes.push({ span, from, to, y });
    };
    for (const row of lane.rows) {
      cover(t, blocks, t.rows[row], window.start, window.end, this.#cells, onBox);
      paint(t, this.#cells, scene.colours, line);
    }
    for (let at = top + 1; at < bottom; at++) this.#pixels.copyWithin(at * width, first, first + width);
  }
}

/** The lanes between `scroll` and `height` below it. */
export function lanesIn(layout: Layout, scroll: number, height: number): Lane[] {
  return layout.lanes.filter((lane) => lane.y + lane.height > scroll && lane.y < scroll + height);
}

function drawNames(scene: Scene, { context, ratio }: Surface, boxes: Box[]): void {
  const { timeline: t, mask, palette } = scene;
  context.font = fontOf(11);
  context.textBaseline = "middle";
  for (const { span, from, to, y } of boxes) {
    context.fillStyle = mask && !mask[t.label[span]] ? palette.muted : palette.ink;
    const name = fitted(context, nameOf(t, span), (to - from) / ratio - 2 * SPACING);
    if (name) context.fillText(name, from / ratio + SPACING, y + 9);
  }
}
