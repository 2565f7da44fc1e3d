import { decode, type Counter, type Detail, type Labels, type Step, type Timeline, type Track } from "../src/timeline/format";

/** Timelines for tests: the other direction of `decode`, and random ones of any size. */

export interface Span {
  track: number;
  depth: number;
  start: number;
  duration: number;
  label: number;
  detail?: number;
  step?: number | null;
}

export interface Parts {
  spans: Span[];
  /** name, kind, phase, op_class, internal */
  labels: [name: string, kind: string, phase?: string | null, opClass?: string | null, internal?: 0 | 1][];
  tracks?: Partial<Track>[];
  details?: Detail[];
  steps?: Step[];
  links?: { kind: string; from: number; to: number }[];
  memory?: { device: string; points: [time: number, allocated: number, reserved: number][] }[];
  counters?: Counter[];
  trainingTrack?: number | null;
  firstStep?: number | null;
  length?: number;
}

export const timelineOf = (parts: Parts): Timeline => decode(encode(parts));

const TRACK: Track = { name: null, kind: "thread", pid: 1, tid: null, host: null, rank: null, device: null };

/** The binary of docs/format.md, "The timeline". Links name spans by their places in the order of rows. */
export function encode(parts: Parts): ArrayBuffer {
  const spans = [...parts.spans].sort((a, b) => a.track - b.track || a.depth - b.depth || a.start - b.start);
  const tracks = Math.max((spans.at(-1)?.track ?? -1) + 1, parts.tracks?.length ?? 0);
  const { words, labels } = vocabulary(parts.labels);
  const { rows, gaps } = rowsOf(spans);
  const links = parts.links ?? [];
  const kinds = [...new Set(links.map((link) => link.kind))].sort();
  const memory = parts.memory ?? [];
  const points = memory.flatMap((curve) => curve.points);
  const firstStep = parts.firstStep ?? null;
  const arrays = {
    ...exceeding("gap", gaps),
    ...exceeding("duration", spans.map((span) => span.duration)),
    label: narrow(spans.map((span) => span.label)),
    detail: narrow(spans.map((span) => span.detail ?? 0)),
    step: narrow(spans.map((span) => (span.step == null ? 0 : span.step - (firstStep ?? 0) + 1))),
    link_from: Uint32Array.from(links, (link) => link.from),
    link_to: Uint32Array.from(links, (link) => link.to),
    link_kind: Uint8Array.from(links, (link) => kinds.indexOf(link.kind)),
    memory_time: Float64Array.from(points, ([time]) => time),
    memory_allocated: Float64Array.from(points, ([, allocated]) => allocated),
    memory_reserved: Float64Array.from(points, ([, , reserved]) => reserved),
  };
  let first = 0;
  const header = {
    version: 1,
    start_ns: "1700000000123456789",
    length_ns: parts.length ?? spans.reduce((end, span) => Math.max(end, span.start + span.duration), 0),
    spans: spans.length,
    links: links.length,
    words,
    labels,
    details: parts.details ?? [{}],
    first_step: firstStep,
    steps: (parts.steps ?? []).map(({ number, start, duration }) => [number, start, duration]),
    tracks: Array.from({ length: tracks }, (_, place) => ({ ...TRACK, name: `thread ${place}`, ...parts.tracks?.[place] })),
    rows,
    training_track: parts.trainingTrack ?? null,
    link_kinds: kinds,
    memory: memory.map(({ device, points: { length } }) => [device, (first += length) - length, length]),
    counters: parts.counters ?? [],
  };
  return packed(header, arrays);
}

function vocabulary(labels: Parts["labels"]): { words: string[]; labels: Labels } {
  const words: string[] = [];
  const place = (word: string | null | undefined): number => {
    if (word == null) return -1;
    if (!words.includes(word)) words.push(word);
    return words.indexOf(word);
  };
  const columns = {
    name: labels.map(([name]) => place(name)),
    kind: labels.map(([, kind]) => place(kind)),
    phase: labels.map(([, , phase]) => place(phase)),
    op_class: labels.map(([, , , opClass]) => place(opClass)),
    internal: labels.map(([, , , , internal]) => internal ?? 0),
  };
  return { words, labels: columns };
}

function rowsOf(spans: Span[]): { rows: [number, number, number, number][]; gaps: number[] } {
  const rows: [number, number, number, number][] = [];
  const gaps = spans.map((span, place) => {
    const row = rows.at(-1);
    const before = spans[place - 1];
    if (row && before.track === span.track && before.depth === span.depth) {
      row[3]++;
      return span.start - (before.start + before.duration);
    }
    rows.push([span.track, span.depth, place, 1]);
    return span.start;
  });
  return { rows, gaps };
}

type Column = Uint8Array | Uint16Array | Uint32Array | Float64Array;

const narrow = (values: number[]): Column =>
  values.every((value) => value < 1 << 16) ? Uint16Array.from(values) : Uint32Array.from(values);

function exceeding(name: string, values: number[]): Record<string, Column> {
  const isLong = (value: number): boolean => value < 0 || value >= 2 ** 32;
  const at = values.flatMap((value, place) => (isLong(value) ? [place] : []));
  return {
    [name]: Uint32Array.from(values, (value) => (isLong(value) ? 0 : value)),
    [`${name}_at`]: Uint32Array.from(at),
    [`${name}_ns`]: Float64Array.from(at, (place) => values[place]),
  };
}

const TYPES = new Map<unknown, string>([[Uint8Array, "u8"], [Uint16Array, "u16"], [Uint32Array, "u32"], [Float64Array, "f64"]]);

function packed(header: object, arrays: Record<string, Column>): ArrayBuffer {
  const described = Object.entries(arrays).map(([name, column]) => ({
    name,
    type: TYPES.get(column.constructor),
    length: column.length,
  }));
  const text = new TextEncoder().encode(JSON.stringify({ ...header, arrays: described }));
  const aligned = (bytes: number): number => Math.ceil(bytes / 8) * 8;
  const body = aligned(12 + text.length);
  const bytes = new Uint8Array(Object.values(arrays).reduce((sum, column) => sum + aligned(column.byteLength), body));
  bytes.set([0x50, 0x4b, 0x54, 0x4c, 1, 0, 0, 0]);
  new DataView(bytes.buffer).setUint32(8, body - 12, true);
  bytes.fill(0x20, 12, body);
  bytes.set(text, 12);
  let at = body;
  for (const column of Object.values(arrays)) {
    bytes.set(new Uint8Array(column.buffer), at);
    at += aligned(column.byteLength);
  }
  return bytes.buffer;
}

/** Random numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomness(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const KINDS: Parts["labels"] = [
  ["ProfilerStep", "step"],
  ["aten::conv2d", "op", "forward", "conv"],
  ["aten::linear", "op", "forward", "matmul"],
  ["ConvolutionBackward0", "op", "backward", "conv"],
  ["Optimizer.step#SGD.step", "annotation", "optimizer"],
  ["cudaLaunchKernel", "runtime"],
  ["volta_sgemm_128x64", "kernel", "forward", "matmul"],
  ["ncclDevKernel_AllReduce", "collective", null, "communication"],
  ["Memcpy HtoD", "memcpy", null, "copy"],
  ["enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "data_wait"],
  ["train.py(12): main", "python"],
  ["torch/nn/modules/module.py(1): _call_impl", "python", null, null, 1],
];

/** About `count` properly nested spans, of every length from nothing to half the timeline, on `tracks` tracks. */
export function randomParts(seed: number, count: number, tracks: number): Parts {
  const random = randomness(seed);
  const spans: Span[] = [];
  const length = count * 1_000;
  const most = Math.ceil(count / tracks);
  const label = (): number => 1 + Math.floor(random() * (KINDS.length - 1));
  for (let track = 0; track < tracks; track++) {
    const open = [{ start: 0, end: length, depth: 0 }];
    const last = spans.length + most;
    while (open.length && spans.length < last) {
      const { start, end, depth } = open.splice(Math.floor(random() * open.length), 1)[0];
      let at = start + Math.floor(random() * (end - start) * 0.1);
      while (at < end && spans.length < last) {
        const duration = Math.floor((end - at) * random() ** 6 * 0.9);
        spans.push({ track, depth, start: at, duration, label: label() });
        if (duration > 50 && depth < 12) open.push({ start: at, end: at + duration, depth: depth + 1 });
        at += duration + Math.floor(random() ** 8 * (end - start) * 0.05) + (random() < 0.5 ? 1 : 0);
      }
    }
  }
  return { spans, labels: KINDS, length };
}

/** `count` spans as a training's: equal steps, 8 tracks of 8 depths each; what a large trace costs. */
export function largeParts(count: number): Parts {
  const [tracks, depths, fan] = [8, 8, 3];
  const random = randomness(1);
  const perTree = (fan ** depths - 1) / (fan - 1);
  const trees = Math.ceil(count / tracks / perTree);
  const period = 40_000_000;
  const spans: Span[] = [];
  const grow = (track: number, depth: number, start: number, end: number, step: number, path = track): void => {
    const turn = random() < 0.01 ? 5 : path * 7; // steps are much the same
    spans.push({ track, depth, start, duration: end - start, label: 1 + (turn % (KINDS.length - 1)), step });
    if (depth + 1 === depths) return;
    const part = Math.floor((end - start) / fan);
    for (let child = 0; child < fan; child++) {
      const begin = start + child * part + Math.floor(random() * part * 0.3);
      grow(track, depth + 1, begin, start + (child + 1) * part - Math.floor(random() * part * 0.2), step, path * fan + child + 1);
    }
  };
  for (let track = 0; track < tracks; track++) {
    for (let tree = 0; tree < trees; tree++) grow(track, 0, tree * period + 1_000, (tree + 1) * period - 5_000, tree);
  }
  const steps = Array.from({ length: trees }, (_, number) => ({ number, start: number * period, duration: period }));
  return { spans, labels: KINDS, steps, firstStep: 0, trainingTrack: 0, length: trees * period };
}
