import type { Detail, Group, Labels, Row, Timeline } from "../timeline/format";

/** The timeline of one rank, and what is added to its times so that they are those of the first rank's clock. */
export interface Part {
  rank: number;
  title: string;
  timeline: Timeline;
  offsetNs: number;
}

/** All ranks' spans in one timeline, whose beginning is that of the rank that began first. At least one part. */
export function join(parts: Part[]): Timeline {
  const begins = parts.map(({ timeline, offsetNs }) => BigInt(timeline.startNs) + BigInt(Math.round(offsetNs)));
  const beginning = begins.reduce((a, b) => (b < a ? b : a));
  const shifts = begins.map((begin) => Number(begin - beginning));
  const all = parts.map(({ timeline }) => timeline);
  const firstStep = least(all.map((t) => t.firstStep));
  const joined = {
    startNs: `${beginning}`,
    length: Math.max(...all.map((t, i) => t.length + shifts[i])),
    count: all.reduce((count, t) => count + t.count, 0),
    firstStep,
    steps: all[0].steps.map((step) => ({ ...step, start: step.start + shifts[0] })),
    trainingTrack: all[0].trainingTrack,
    ...columns(all, shifts, firstStep ?? 0),
    ...vocabulary(all),
    ...tracks(parts),
  };
  return { ...joined, links: links(all), ...curves(parts, shifts) };
}

const least = (values: (number | null)[]): number | null => {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.min(...known) : null;
};

/** What was counted before each part. */
function before(all: Timeline[], count: (t: Timeline) => number): number[] {
  let total = 0;
  return all.map((t) => (total += count(t)) - count(t));
}

function columns(all: Timeline[], shifts: number[], firstStep: number) {
  const labels = before(all, (t) => t.labels.name.length);
  const details = before(all, (t) => t.details.length);
  const count = all.reduce((total, t) => total + t.count, 0);
  const [start, duration] = [new Float64Array(count), new Float64Array(count)];
  const [label, detail, step] = [new Uint32Array(count), new Uint32Array(count), new Uint32Array(count)];
  let at = 0;
  all.forEach((t, part) => {
    const later = (t.firstStep ?? firstStep) - firstStep;
    for (let i = 0; i < t.count; i++, at++) {
      start[at] = t.start[i] + shifts[part];
      duration[at] = t.duration[i];
      label[at] = t.label[i] + labels[part];
      detail[at] = t.detail[i] + details[part];
      step[at] = t.step[i] && t.step[i] + later;
    }
  });
  return { start, duration, label, detail, step };
}

function vocabulary(all: Timeline[]): { words: string[]; labels: Labels; details: Detail[] } {
  const words = before(all, (t) => t.words.length);
  const moved = (column: "name" | "kind" | "phase" | "op_class"): number[] =>
    all.flatMap((t, part) => t.labels[column].map((word) => (word < 0 ? word : word + words[part])));
  return {
    words: all.flatMap((t) => t.words),
    labels: {
      name: moved("name"),
      kind: moved("kind"),
      phase: moved("phase"),
      op_class: moved("op_class"),
      internal: all.flatMap((t) => t.labels.internal),
    },
    details: all.flatMap((t) => t.details),
  };
}

const APART = 10_000_000; // more than any process's number: processes of two hosts may share one

function tracks(parts: Part[]): Pick<Timeline, "tracks" | "rows" | "groups"> {
  const all = parts.map(({ timeline }) => timeline);
  const firsts = before(all, (t) => t.tracks.length);
  const spans = before(all, (t) => t.count);
  const groups = parts.map(({ title, timeline: t }, part): Group => {
    const trainingTrack = t.trainingTrack === null ? null : t.trainingTrack + firsts[part];
    return { title, first: firsts[part], count: t.tracks.length, trainingTrack };
  });
  const pids = new Map<number, number>(); // process -> the part that has it
  const pidOf = (pid: number, part: number): number =>
    (pids.get(pid) ?? (pids.set(pid, part), part)) === part ? pid : pid + (part + 1) * APART;
  return {
    groups,
    tracks: parts.flatMap(({ rank, title, timeline }, part) =>
      timeline.tracks.map((track) => ({
        ...track,
        rank,
        pid: pidOf(track.pid ?? 0, part),
        host: [title, track.host].filter(Boolean).join(" on "),
      })),
    ),
    rows: all.flatMap((t, part) =>
      t.rows.map((row): Row => ({ ...row, track: row.track + firsts[part], first: row.first + spans[part] })),
    ),
  };
}

function links(all: Timeline[]): Timeline["links"] {
  const spans = before(all, (t) => t.count);
  const kinds = [...new Set(all.flatMap((t) => t.links.kinds))];
  const ends = (end: "from" | "to"): Uint32Array<ArrayBuffer> =>
    Uint32Array.from(all.flatMap((t, part) => Array.from(t.links[end], (span) => span + spans[part])));
  const kind = Uint8Array.from(all.flatMap((t) => Array.from(t.links.kind, (one) => kinds.indexOf(t.links.kinds[one]))));
  return { from: ends("from"), to: ends("to"), kind, kinds };
}

function curves(parts: Part[], shifts: number[]): Pick<Timeline, "memory" | "counters"> {
  return {
    memory: parts.flatMap(({ title, timeline }, part) =>
      timeline.memory.map((curve) => ({
        ...curve,
        device: `${title}: ${curve.device}`,
        time: curve.time.map((time) => time + shifts[part]),
      })),
    ),
    counters: parts.flatMap(({ title, timeline }, part) =>
      timeline.counters.map((counter) => ({
        ...counter,
        name: `${title}: ${counter.name}`,
        time_ns: counter.time_ns.map((time) => time + shifts[part]),
      })),
    ),
  };
}
