import type { BatchSeries, LoadingStage } from "../data/types";
import type { Tone } from "../palette";

/** What stages have in common, and the colour of it: more colours than these are not told apart by everybody. */
export type Kind = "sampler" | "line" | "item" | "collate" | "way" | "pin" | "other";

export const KINDS: Record<Kind, [tone: Tone, name: string]> = {
  sampler: ["runtime", "sampler"],
  line: ["host", "waiting in line"],
  item: ["data_wait", "items"],
  collate: ["compute", "collate"],
  way: ["communication", "on the way"],
  pin: ["copy", "pin"],
  other: ["unattributed", "other"],
};

interface Meant {
  title: string;
  kind: Kind;
  meaning: string;
}

/** In the order in which a batch goes through them, as in docs/definitions.md. */
const STAGES: Record<string, Meant> = {
  sampler: {
    title: "Sampler",
    kind: "sampler",
    meaning: "Choosing the batch's indices. It runs in the training process, whatever the number of workers.",
  },
  backlog: {
    title: "Backlog",
    kind: "line",
    meaning: "Waiting for the worker to begin this batch: it is busy with those before.",
  },
  item: {
    title: "Items",
    kind: "item",
    meaning: "Getting the samples from the dataset: reading, decoding, transforms.",
  },
  collate: { title: "Collate", kind: "collate", meaning: "Making one batch of the samples." },
  feeder: {
    title: "Feeder",
    kind: "line",
    meaning:
      "The batch is made and waits for the worker's sending thread, which waits for a core or for Python's lock.",
  },
  pickle: { title: "Pickle", kind: "way", meaning: "Packing the batch, in the worker's sending thread." },
  pipe: { title: "Pipe", kind: "way", meaning: "On its way from the worker to the training process." },
  unpickle: { title: "Unpickle", kind: "way", meaning: "Unpacking the batch, in the training process." },
  pin: { title: "Pin", kind: "pin", meaning: "Copying the batch to pinned memory, in the pin thread." },
  hold: { title: "Hold", kind: "line", meaning: "It had arrived, and waited until the batches before it were there." },
  other: { title: "Other", kind: "other", meaning: "What none of the stages explains." },
};

/** A stage of this name; one that a later profkit adds is shown as it is. */
export const stageOf = (name: string): Meant =>
  STAGES[name] ?? { title: name, kind: "other", meaning: STAGES.other.meaning };

const place = (name: string): number => {
  const found = Object.keys(STAGES).indexOf(name);
  return found < 0 ? Infinity : found;
};

/** Those that explain any of the wait or took time, in their order. */
export const inOrder = (stages: LoadingStage[]): LoadingStage[] =>
  stages.filter(({ wait_ns, mean_ns }) => wait_ns > 0 || mean_ns).sort((a, b) => place(a.name) - place(b.name) || 0);

/** The waits by kind, in the order of `KINDS`; kinds that nothing waited for are left out. */
export function byKind({ by_stage, wait_ns }: BatchSeries): [Kind, number[]][] {
  const sums = new Map<Kind, number[]>();
  for (const [name, waits] of Object.entries(by_stage)) {
    const { kind } = stageOf(name);
    const sum = sums.get(kind) ?? wait_ns.map(() => 0);
    waits.forEach((wait, i) => (sum[i] += wait));
    sums.set(kind, sum);
  }
  return (Object.keys(KINDS) as Kind[]).flatMap((kind): [Kind, number[]][] => {
    const sum = sums.get(kind);
    return sum ? [[kind, sum]] : [];
  });
}
