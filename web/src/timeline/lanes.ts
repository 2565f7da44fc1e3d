import { clean } from "../words";
import type { Timeline, Track } from "./format";

/** What lies where: the tracks in sections, each track in lanes, from top to bottom. */

export const ROW = 18; // CSS pixels, as all heights here
const HEADER = 22;
const AREA = 40;
const GAP = 5; // below each track

export type Lane =
  | { kind: "section"; y: number; height: number }
  /** Some rows of a track: one of them, or, of a track that is closed, all on one line. */
  | { kind: "rows"; rows: number[]; track: number; y: number; height: number }
  | { kind: "memory" | "counter"; index: number; y: number; height: number };

/** The name of a track or curve, at the left of its lanes. */
export interface Head {
  key: string;
  title: string;
  hint: string;
  y: number;
  height: number;
  open: boolean | null; // null: there is nothing to open
  isSection: boolean;
}

export interface Layout {
  lanes: Lane[];
  heads: Head[];
  height: number;
  /** Of each row: its lane. */
  laneOfRow: Int32Array;
}

interface Section {
  key: string;
  title: string;
  tracks: number[];
}

const SECTIONS: [key: string, title: string][] = [
  ["steps", "Steps"],
  ["training", "Training thread"],
  ["loader_worker", "Loader workers"],
  ["device_stream", "Device streams"],
  ["other", "Other threads"],
];

function sectionOf(t: Timeline, track: number): string {
  if (track === (groupOf(t, track) ?? t).trainingTrack) return "training";
  const { kind } = t.tracks[track];
  return SECTIONS.some(([key]) => key === kind) ? kind : "other";
}

/** The group that a track is in, where there are any. */
const groupOf = (t: Timeline, track: number) =>
  t.groups?.find(({ first, count }) => track >= first && track < first + count);

/** The sections that have tracks, empty tracks left out; groups are sections with all kinds of tracks. */
function sectionsOf(t: Timeline): Section[] {
  const used = [...new Set(t.rows.map((row) => row.track))];
  const kinds = SECTIONS.map(([key, title]) => ({
    key,
    title,
    tracks: used.filter((track) => sectionOf(t, track) === key).sort((a, b) => byName(t.tracks[a], t.tracks[b])),
  }));
  const groups = t.groups?.map((group) => ({
    key: group.title,
    title: group.title,
    tracks: kinds.flatMap(({ tracks }) => tracks.filter((track) => groupOf(t, track) === group)),
  }));
  return (groups ?? kinds).filter((section) => section.tracks.length > 0);
}

const names = new Intl.Collator("en", { numeric: true });

function byName(a: Track, b: Track): number {
  return (a.rank ?? 0) - (b.rank ?? 0) || names.compare(trackTitle(a), trackTitle(b));
}

/** The name of a track, behind that of its group. */
export const trackPath = (t: Timeline, track: number): string =>
  [groupOf(t, track)?.title, trackTitle(t.tracks[track])].filter(Boolean).join(" · ");

export function trackTitle(track: Track): string {
  if (track.kind === "steps") return "Steps";
  const name = clean(track.name || track.device || (track.tid === null ? track.kind : `thread ${track.tid}`));
  // What matters most comes first, as long names are cut.
  return name.endsWith(TRAINING) ? `training: ${name.slice(0, -TRAINING.length)}` : name;
}

const TRAINING = " (training)";

/** All that is known of a track, for a hint. */
export function trackHint(track: Track): string {
  const facts = Object.entries({ ...track, name: null }).filter(([, value]) => value !== null);
  return [trackTitle(track), ...facts.map((fact) => clean(fact.join(" ")))].join("\n");
}

const MANY = 8; // other threads

/** Keys of the tracks closed at first: those of internals alone, other threads where they are many, and all of ranks. */
export function closedAtFirst(t: Timeline): Set<string> {
  const closed = new Set<string>();
  const worked = new Set<number>();
  for (const row of t.rows) {
    for (let i = row.first; i < row.first + row.count && !worked.has(row.track); i++) {
      if (!t.labels.internal[t.label[i]]) worked.add(row.track);
    }
  }
  for (const { tracks } of sectionsOf(t)) {
    const others = tracks.filter((track) => sectionOf(t, track) === "other");
    for (const track of tracks) {
      if (t.groups || !worked.has(track) || (others.length > MANY && others.includes(track))) closed.add(trackKey(track));
    }
  }
  return closed;
}

export const trackKey = (track: number): string => `track ${track}`;

/** Lays lanes below each other. */
class Stack {
  readonly lanes: Lane[] = [];
  readonly heads: Head[] = [];
  height = 0;

  constructor(private readonly closed: ReadonlySet<string>) {}

  isOpen(key: string): boolean {
    return !this.closed.has(key);
  }

  head(key: string, title: string, hint: string, height: number, canClose: boolean, isSection = false): void {
    const open = canClose ? this.isOpen(key) : null;
    this.heads.push({ key, title, hint, y: this.height, height, open, isSection });
  }

  section(key: string, title: string, count: number): void {
    this.head(key, `${title} · ${count}`, title, HEADER, true, true);
    this.lanes.push({ kind: "section", y: this.height, height: HEADER });
    this.height += HEADER;
  }

  rows(rows: number[], track: number): void {
    this.lanes.push({ kind: "rows", rows, track, y: this.height, height: ROW });
    this.height += ROW;
  }

  area(kind: "memory" | "counter", index: number): void {
    this.lanes.push({ kind, index, y: this.height, height: AREA });
    this.height += AREA + GAP;
  }
}

/** Where everything lies while the sections and tracks of these keys are closed. */
export function layoutOf(t: Timeline, closed: ReadonlySet<string>): Layout {
  const stack = new Stack(closed);
  const rowsOf: number[][] = t.tracks.map(() => []);
  t.rows.forEach((row, place) => rowsOf[row.track].push(place));
  for (const { key, title, tracks } of sectionsOf(t)) {
    const hasHead = tracks.length > 1 || !!t.groups;
    if (hasHead) stack.section(key, title, tracks.length);
    if (hasHead && !stack.isOpen(key)) continue;
    for (const track of tracks) addTrack(stack, t, track, rowsOf[track]);
  }
  addAreas(stack, t);
  return { lanes: stack.lanes, heads: stack.heads, height: stack.height, laneOfRow: lanesOfRows(t, stack.lanes) };
}

function addTrack(stack: Stack, t: Timeline, track: number, rows: number[]): void {
  const key = trackKey(track);
  const canClose = rows.length > 1;
  const isOpen = canClose && stack.isOpen(key);
  const height = ROW * (isOpen ? rows.length : 1);
  stack.head(key, trackTitle(t.tracks[track]), trackHint(t.tracks[track]), height, canClose);
  if (isOpen) for (const row of rows) stack.rows([row], track);
  else stack.rows(rows, track);
  stack.height += GAP;
}

function addAreas(stack: Stack, t: Timeline): void {
  t.memory.forEach(({ device, time }, index) => {
    if (!time.length) return;
    const name = clean(device);
    stack.head(`memory ${index}`, `Memory ${name}`, `Memory allocated on ${name}; line: reserved`, AREA, false);
    stack.area("memory", index);
  });
  t.counters.forEach(({ name, unit, value }, index) => {
    if (!value.length) return;
    stack.head(`counter ${index}`, clean(name), clean(`${name} (${unit})`), AREA, false);
    stack.area("counter", index);
  });
}

function lanesOfRows(t: Timeline, lanes: Lane[]): Int32Array {
  const found = new Int32Array(t.rows.length).fill(-1);
  lanes.forEach((lane, place) => {
    if (lane.kind === "rows") for (const row of lane.rows) found[row] = place;
  });
  return found;
}

/** Place of the lane at the height `y`, or -1. */
export function laneAt(layout: Layout, y: number): number {
  return layout.lanes.findIndex((lane) => y >= lane.y && y < lane.y + lane.height);
}
