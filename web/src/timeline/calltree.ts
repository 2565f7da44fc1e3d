import type { Timeline } from "./format";
import { pathsOf, sumsOf, type Paths, type Sums } from "./paths";
import { labelWord } from "./spans";

/**
 * Who called whom and how long that took, merged over threads. A frame is its path's number (`pathsOf`); 0 is the
 * root, whose time is that of all that nobody called.
 */
export interface CallTree {
  paths: Paths;
  sums: Sums;
  /** Frames by caller, the longest first; those of frame f are at `first[f]` up to `first[f + 1]`. */
  frames: Int32Array;
  first: Int32Array;
}

const HOST_KINDS = new Set(["thread", "process", "loader_worker"]);

/** Tracks whose spans call each other, those that hold nothing left out. */
export function hostTracks(t: Timeline): number[] {
  const used = new Set(t.rows.map((row) => row.track));
  return [...used].filter((track) => HOST_KINDS.has(t.tracks[track].kind));
}

/** The tree of these tracks between the times `start` and `end`, spans clipped to them. */
export function callTree(t: Timeline, tracks: number[], start: number, end: number): CallTree {
  const paths = pathsOf(t);
  const sums = sumsOf(t, new Set(tracks), start, end);
  const { caller } = paths;
  const { total } = sums;
  for (let frame = 1; frame < caller.length; frame++) if (!caller[frame]) total[0] += total[frame];
  const first = new Int32Array(caller.length + 1);
  for (let frame = 1; frame < caller.length; frame++) first[caller[frame] + 1]++;
  for (let frame = 0; frame < caller.length; frame++) first[frame + 1] += first[frame];
  const frames = Int32Array.from({ length: caller.length - 1 }, (_, place) => place + 1);
  frames.sort((a, b) => caller[a] - caller[b] || total[b] - total[a]);
  return { paths, sums, frames, first };
}

/** What a frame called, the longest first. */
export function calledBy({ frames, first }: CallTree, frame: number): Int32Array {
  return frames.subarray(first[frame], first[frame + 1]);
}

/** The frame and those it was called from, the root first. */
export function callersOf({ paths }: CallTree, frame: number): number[] {
  const stack = [];
  for (let at = frame; at >= 0; at = paths.caller[at]) stack.unshift(at);
  return stack;
}

/** The source's own name of a frame. */
export function frameName(t: Timeline, { paths }: CallTree, frame: number): string {
  return frame ? (labelWord(t, paths.label[frame], "name") ?? "") : "All";
}

/** Where a frame is drawn: `left` and `width` as shares, `depth` from 0. */
export interface Place {
  frame: number;
  left: number;
  width: number;
  depth: number;
}

/** Places of all frames below `top` that are at least `narrowest` wide, callers before what they called. */
export function placesOf(tree: CallTree, top: number, narrowest: number): Place[] {
  const places: Place[] = [{ frame: top, left: 0, width: 1, depth: 0 }];
  const whole = tree.sums.total[top] || 1;
  for (let i = 0; i < places.length; i++) {
    let { left } = places[i];
    for (const frame of calledBy(tree, places[i].frame)) {
      const width = tree.sums.total[frame] / whole;
      if (width < narrowest || !width) break;
      places.push({ frame, left, width, depth: places[i].depth + 1 });
      left += width;
    }
  }
  return places;
}
