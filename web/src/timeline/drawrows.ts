import { pixelOf } from "./tone";
import { cellsOf, cover, paint, type Cells } from "./raster";
import type { Lane, Layout } from "./lanes";
import type { Scene, Surface } from "./scene";
import { nameOf } from "./spans";
import { fitted, fontOf } from "./text";

/** The spans themselves: one line of pixels per lane, copied downwards, and names on the boxes that hold them. */

const NARROWEST_TEXT = 36; // CSS pixels
const SPACING = 4; // left of a name

type RowLane = Lane & { kind: "rows" };

interface Box {
  span: number;
  from: number; // device pixels
  to: number;
}

/** What a lane looks like: one line of it, and the boxes that are wide enough for a name. */
interface Picture {
  line: Uint32Array;
  boxes: Box[];
}

/** Paints the lanes, and keeps what it may need again: scrolling shows the same lines elsewhere. */
export class RowPainter {
  #image: ImageData | null = null;
  #pixels = new Uint32Array();
  #cells: Cells = cellsOf(0);
  #pictures = new Map<Lane, Picture>();
  #scene: Scene | null = null;

  draw(scene: Scene, surface: Surface): void {
    const { canvas } = surface.context;
    if (this.#image?.width !== canvas.width || this.#image.height !== canvas.height) this.#resize(surface.context);
    else if (this.#scene && !looksAlike(scene, this.#scene)) this.#pictures.clear();
    this.#scene = scene;
    this.#pixels.fill(pixelOf(scene.palette.card));
    const lanes = lanesIn(scene.layout, scene.scroll, surface.height).filter((lane) => lane.kind === "rows");
    for (const lane of lanes) this.#drawLane(scene, surface.ratio, lane);
    surface.context.putImageData(this.#image!, 0, 0);
    drawNames(scene, surface, lanes.map((lane) => [lane, this.#pictureOf(scene, surface.ratio, lane).boxes]));
  }

  #resize(context: CanvasRenderingContext2D): void {
    const { width, height } = context.canvas;
    this.#image = context.createImageData(width, height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
    this.#cells = cellsOf(width);
    this.#pictures.clear();
  }

  #drawLane(scene: Scene, ratio: number, lane: RowLane): void {
    const { width, height } = this.#image!;
    const y = lane.y - scene.scroll;
    const top = Math.max(0, Math.round(y * ratio));
    const bottom = Math.min(height, Math.round((y + lane.height - 1) * ratio));
    if (bottom <= top) return;
    const first = top * width;
    this.#pixels.set(this.#pictureOf(scene, ratio, lane).line, first);
    for (let at = top + 1; at < bottom; at++) this.#pixels.copyWithin(at * width, first, first + width);
  }

  #pictureOf(scene: Scene, ratio: number, lane: RowLane): Picture {
    let picture = this.#pictures.get(lane);
    if (!picture) this.#pictures.set(lane, (picture = pictureOf(scene, ratio, lane, this.#cells)));
    return picture;
  }
}

/** Whether all lanes look the same in both; they may lie elsewhere. */
const looksAlike = (one: Scene, other: Scene): boolean =>
  one.window === other.window && one.colours === other.colours && one.layout === other.layout;

function pictureOf(scene: Scene, ratio: number, lane: RowLane, cells: Cells): Picture {
  const { timeline: t, blocks, window } = scene;
  const line = new Uint32Array(cells.span.length).fill(pixelOf(scene.palette.card));
  const boxes: Box[] = [];
  const isWhole = lane.rows.length === 1; // names would hide each other where rows share a line
  const onBox = (span: number, from: number, to: number): void => {
    if (isWhole && to - from >= NARROWEST_TEXT * ratio) boxes.push({ span, from, to });
  };
  for (const row of lane.rows) {
    cover(t, blocks, t.rows[row], window.start, window.end, cells, onBox);
    paint(t, cells, scene.colours, line);
  }
  return { line, boxes };
}

/** The lanes between `scroll` and `height` below it. */
export function lanesIn(layout: Layout, scroll: number, height: number): Lane[] {
  return layout.lanes.filter((lane) => lane.y + lane.height > scroll && lane.y < scroll + height);
}

function drawNames(scene: Scene, { context, ratio }: Surface, lanes: [lane: Lane, boxes: Box[]][]): void {
  const { timeline: t, mask, palette } = scene;
  context.font = fontOf(11);
  context.textBaseline = "middle";
  for (const [lane, boxes] of lanes) {
    const middle = lane.y - scene.scroll + (lane.height - 1) / 2;
    for (const { span, from, to } of boxes) {
      context.fillStyle = mask && !mask[t.label[span]] ? palette.muted : palette.ink;
      const name = fitted(context, nameOf(t, span), (to - from) / ratio - 2 * SPACING);
      if (name) context.fillText(name, from / ratio + SPACING, middle);
    }
  }
}
