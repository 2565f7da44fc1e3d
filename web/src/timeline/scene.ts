import type { Palette } from "../palette";
import type { Timeline } from "./format";
import type { Layout } from "./lanes";
import type { Blocks } from "./raster";
import type { Link } from "./spans";
import type { Window } from "./window";

/** All that one frame shows. */
export interface Scene {
  timeline: Timeline;
  palette: Palette;
  layout: Layout;
  blocks: Blocks;
  /** Colours of the labels, as pixels; dimmed where they are not looked for. */
  colours: Uint32Array;
  /** 1 for the labels that are looked for; null: all. */
  mask: Uint8Array | null;
  window: Window;
  /** CSS pixels above the upper edge. */
  scroll: number;
  span: number; // selected; -1: none
  links: Link[];
  range: [start: number, end: number] | null;
}

/** A canvas of so many CSS pixels, each of `ratio` device pixels. */
export interface Surface {
  context: CanvasRenderingContext2D;
  width: number;
  height: number;
  ratio: number;
}

const SHARPEST = 2; // device pixels per CSS pixel: more cannot be told apart and cost time

/** The canvas as a surface of that size. */
export function surfaceOf(canvas: HTMLCanvasElement, width: number, height: number): Surface {
  const ratio = Math.min(Math.max(devicePixelRatio || 1, 1), SHARPEST);
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d", { alpha: false })!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height, ratio };
}

/** Horizontal place of a time, in CSS pixels. */
export function placeOf(time: number, { start, end }: Window, width: number): number {
  return ((time - start) / (end - start)) * width;
}

/** The time at a horizontal place. */
export function timeAt(x: number, { start, end }: Window, width: number): number {
  return start + (x / width) * (end - start);
}
