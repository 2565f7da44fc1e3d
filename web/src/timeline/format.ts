/** A window's spans as columns, and the reader of their binary: docs/format.md, "The timeline". */

export interface Labels {
  /** Places in `words`, or -1. */
  name: number[];
  kind: number[];
  phase: number[];
  op_class: number[];
  /** 1: what a framework calls around the work, whose time is its caller's. */
  internal: number[];
}

export interface Detail {
  shapes?: string;
  dtypes?: string;
  module?: string;
  source?: string;
  flops?: number;
  bytes?: number;
  category?: string;
}

export interface Track {
  name: string | null;
  kind: string;
  pid: number | null;
  tid: number | null;
  host: string | null;
  rank: number | null;
  device: string | null;
}

/** One depth of one track: spans `first` to `first + count`, in which nothing overlaps, sorted by start. */
export interface Row {
  track: number;
  depth: number;
  first: number;
  count: number;
}

export interface Step {
  number: number | null;
  start: number;
  duration: number;
}

export interface Memory {
  device: string;
  time: Float64Array;
  allocated: Float64Array;
  reserved: Float64Array; // NaN where unknown
}

export interface Counter {
  name: string;
  unit: string;
  time_ns: number[];
  value: number[];
}

type Ints = Uint16Array | Uint32Array;

/** Times are nanoseconds since the trace's beginning; a span is its place in the columns, ordered by row. */
export interface Timeline {
  startNs: string; // since the Unix epoch, as digits
  length: number;
  count: number;
  start: Float64Array;
  duration: Float64Array;
  label: Ints;
  detail: Ints;
  step: Ints; // less `firstStep`, plus 1; 0: none
  words: string[];
  labels: Labels;
  details: Detail[];
  firstStep: number | null;
  steps: Step[];
  tracks: Track[];
  rows: Row[];
  trainingTrack: number | null;
  links: { from: Uint32Array; to: Uint32Array; kind: Uint8Array; kinds: string[] };
  memory: Memory[];
  counters: Counter[];
  /** What the tracks are grouped by instead of their kinds; unset in a timeline of one rank. */
  groups?: Group[];
}

/** The tracks of one rank among those of several. */
export interface Group {
  title: string;
  first: number; // track
  count: number;
  trainingTrack: number | null;
}

interface Header {
  version: number;
  start_ns: string;
  length_ns: number;
  spans: number;
  words: string[];
  labels: Labels;
  details: Detail[];
  first_step: number | null;
  steps: [number | null, number, number][];
  tracks: Track[];
  rows: [number, number, number, number][];
  training_track: number | null;
  link_kinds: string[];
  memory: [string, number, number][];
  counters: Counter[];
  arrays: { name: string; type: string; length: number }[];
}

const MAGIC = "PKTL";
const VERSION = 1;
const ALIGNMENT = 8;
const TYPES = { u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, f64: Float64Array };

type Arrays = Record<string, Ints | Uint8Array | Float64Array>;

/** The timeline in `buffer`. Throws an Error of one sentence where it is none, or of a later version. */
export function decode(buffer: ArrayBuffer): Timeline {
  const [header, body] = headerOf(buffer);
  const arrays = arraysOf(buffer, header, body);
  const rows = header.rows.map(([track, depth, first, count]) => ({ track, depth, first, count }));
  const duration = Float64Array.from(arrays.duration);
  restore(duration, arrays.duration_at, arrays.duration_ns);
  const start = Float64Array.from(arrays.gap);
  restore(start, arrays.gap_at, arrays.gap_ns);
  accumulate(start, duration, rows);
  return {
    startNs: header.start_ns,
    length: header.length_ns,
    count: header.spans,
    start,
    duration,
    label: arrays.label as Ints,
    detail: arrays.detail as Ints,
    step: arrays.step as Ints,
    words: header.words,
    labels: header.labels,
    details: header.details,
    firstStep: header.first_step,
    steps: header.steps.map(([number, begin, length]) => ({ number, start: begin, duration: length })),
    tracks: header.tracks,
    rows,
    trainingTrack: header.training_track,
    links: {
      from: arrays.link_from as Uint32Array,
      to: arrays.link_to as Uint32Array,
      kind: arrays.link_kind as Uint8Array,
      kinds: header.link_kinds,
    },
    memory: header.memory.map(([device, first, count]) => curve(arrays, device, first, first + count)),
    counters: header.counters,
  };
}

function headerOf(buffer: ArrayBuffer): [header: Header, body: number] {
  const bytes = new Uint8Array(buffer);
  if (buffer.byteLength < 12 || String.fromCharCode(...bytes.subarray(0, 4)) !== MAGIC) {
    throw new Error("This is no timeline of profkit.");
  }
  if (bytes[4] !== VERSION) throw newer(bytes[4]);
  const body = 12 + new DataView(buffer).getUint32(8, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(12, body))) as Header;
  if (header.version !== VERSION) throw newer(header.version);
  return [header, body];
}

const newer = (version: number): Error =>
  new Error(`This timeline has version ${version} and this page reads version ${VERSION}: update profkit.`);

/** Views into the buffer; nothing is copied. */
function arraysOf(buffer: ArrayBuffer, header: Header, body: number): Arrays {
  const arrays: Arrays = {};
  let at = body;
  for (const { name, type, length } of header.arrays) {
    const column = new TYPES[type as keyof typeof TYPES](buffer, at, length);
    arrays[name] = column;
    at += Math.ceil(column.byteLength / ALIGNMENT) * ALIGNMENT;
  }
  return arrays;
}

/** Put the values that exceed 32 bits into their places. */
function restore(column: Float64Array, at: Arrays[string], values: Arrays[string]): void {
  for (let i = 0; i < at.length; i++) column[at[i]] = values[i];
}

/** Turn the distances within each row, in place, into times since the trace's beginning. */
function accumulate(gap: Float64Array, duration: Float64Array, rows: Row[]): void {
  for (const { first, count } of rows) {
    let end = 0;
    for (let i = first; i < first + count; i++) {
      gap[i] += end;
      end = gap[i] + duration[i];
    }
  }
}

function curve(arrays: Arrays, device: string, from: number, to: number): Memory {
  const part = (name: string): Float64Array => arrays[name].subarray(from, to) as Float64Array;
  return {
    device,
    time: part("memory_time"),
    allocated: part("memory_allocated"),
    reserved: part("memory_reserved"),
  };
}
