import type { Timeline } from "./format";
import { trackTitle } from "./lanes";
import { labelWord, rowOf, stepOf } from "./spans";

/**
 * A timeline in Chrome's JSON format, which Perfetto reads ("Trace Event Format"). In pieces, with pauses between
 * them, so that the page goes on answering and no string gets too long.
 */

const PIECE = 20_000; // events

/** The file's content. */
export async function chromeTrace(t: Timeline): Promise<Blob> {
  const pieces: BlobPart[] = ['{"displayTimeUnit": "ms", "traceEvents": [\n', metadata(t)];
  for (const events of [spanEvents(t), linkEvents(t), curveEvents(t)]) {
    for (const piece of events) {
      pieces.push(new Blob([piece])); // the browser keeps it outside the page's memory
      await pause();
    }
  }
  pieces.push("\n]}\n");
  return new Blob(pieces, { type: "application/json" });
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

interface Address {
  pid: number;
  tid: number;
}

const SPARE = 1_000_000; // first thread number for tracks whose own is taken or unknown

/** Process and thread of each track, no two the same: Perfetto would mix their spans. */
function addresses(t: Timeline): Address[] {
  const taken = new Set<string>();
  return t.tracks.map((track, place) => {
    const pid = track.pid ?? track.rank ?? 0;
    const isFree = track.tid !== null && !taken.has(`${pid} ${track.tid}`);
    const tid = isFree ? track.tid! : SPARE + place;
    taken.add(`${pid} ${tid}`);
    return { pid, tid };
  });
}

const known = new WeakMap<Timeline, Address[]>();

function addressesOf(t: Timeline): Address[] {
  if (!known.has(t)) known.set(t, addresses(t));
  return known.get(t)!;
}

function metadata(t: Timeline): string {
  const events = addressesOf(t).flatMap((at, place) => {
    const { device, host } = t.tracks[place];
    const process = device ?? host ?? "process";
    return [
      { ph: "M", name: "process_name", ...at, args: { name: process } },
      { ph: "M", name: "thread_name", ...at, args: { name: trackTitle(t.tracks[place]) } },
      { ph: "M", name: "thread_sort_index", ...at, args: { sort_index: place } },
    ];
  });
  const labels = { ph: "M", name: "trace_labels", args: { start_ns: t.startNs } };
  return [labels, ...events].map((event) => JSON.stringify(event)).join(",\n");
}

/** Nanoseconds as the format counts: microseconds, with the decimals that keep every nanosecond. */
function microseconds(time: number): string {
  const fraction = String(time % 1_000).padStart(3, "0");
  return `${Math.floor(time / 1_000)}.${fraction}`;
}

const place = ({ pid, tid }: Address): string => `"pid": ${pid}, "tid": ${tid}`;

function* spanEvents(t: Timeline): Generator<string> {
  const labels = t.labels.name.map((_, label) => labelText(t, label));
  const details = t.details.map((detail) => JSON.stringify(detail).slice(1, -1));
  for (const row of t.rows) {
    const at = place(addressesOf(t)[row.track]);
    const last = row.first + row.count;
    for (let from = row.first; from < last; from += PIECE) {
      let text = "";
      for (let i = from; i < Math.min(from + PIECE, last); i++) {
        const step = stepOf(t, i);
        const args = [step === null ? "" : `"step": ${step}`, details[t.detail[i]]].filter(Boolean).join(", ");
        text += `,\n{"ph": "X", ${labels[t.label[i]]}, ${at}, "ts": ${microseconds(t.start[i])}, `;
        text += `"dur": ${microseconds(t.duration[i])}, "args": {${args}}}`;
      }
      yield text;
    }
  }
}

function labelText(t: Timeline, label: number): string {
  const name = JSON.stringify(labelWord(t, label, "name") ?? "");
  return `"name": ${name}, "cat": ${JSON.stringify(labelWord(t, label, "kind") ?? "")}`;
}

function* linkEvents(t: Timeline): Generator<string> {
  const { from, to, kind, kinds } = t.links;
  const words = kinds.map((word) => JSON.stringify(word));
  const end = (phase: string, span: number): string => {
    const at = place(addressesOf(t)[t.rows[rowOf(t, span)].track]);
    return `"ph": ${phase}, ${at}, "ts": ${microseconds(t.start[span])}`;
  };
  for (let first = 0; first < from.length; first += PIECE) {
    let text = "";
    for (let i = first; i < Math.min(first + PIECE, from.length); i++) {
      const link = `"id": ${i}, "name": ${words[kind[i]]}, "cat": ${words[kind[i]]}`;
      text += `,\n{${end('"s"', from[i])}, ${link}},\n{${end('"f", "bp": "e"', to[i])}, ${link}}`;
    }
    yield text;
  }
}

function* curveEvents(t: Timeline): Generator<string> {
  const pid = addressesOf(t)[t.trainingTrack ?? 0]?.pid ?? 0;
  const event = (name: string, time: number, args: Record<string, number>): string =>
    `,\n${JSON.stringify({ ph: "C", name, pid, args }).slice(0, -1)}, "ts": ${microseconds(time)}}`;
  for (const { device, time, allocated, reserved } of t.memory) {
    let text = "";
    for (let i = 0; i < time.length; i++) {
      const args = Number.isNaN(reserved[i]) ? {} : { reserved: reserved[i] };
      text += event(`Memory ${device}`, time[i], { allocated: allocated[i], ...args });
    }
    yield text;
  }
  for (const { name, unit, time_ns, value } of t.counters) {
    yield time_ns.map((time, i) => event(name, time, { [unit]: value[i] })).join("");
  }
}
