/** One colour for one thing, on every surface, in both themes. `tests/palette.test.ts` says what they must keep to. */

/** What a span of the timeline or a part of a step is coloured by. */
export type Tone =
  | "data_wait"
  | "forward"
  | "backward"
  | "optimizer"
  | "compute"
  | "communication"
  | "copy"
  | "runtime"
  | "host"
  | "step"
  | "unattributed";

export interface Palette {
  dark: boolean;
  page: string;
  card: string;
  text: string;
  muted: string;
  line: string;
  accent: string;
  /** Text on a coloured area. */
  ink: string;
  tones: Record<Tone, string>;
}

export const light: Palette = {
  dark: false,
  page: "#f4f5f7",
  card: "#ffffff",
  text: "#1a1d23",
  muted: "#5a616c",
  line: "#dcdfe5",
  accent: "#1a5fb4",
  ink: "#ffffff",
  tones: {
    data_wait: "#bf5217",
    forward: "#177ca4",
    backward: "#4e4984",
    optimizer: "#446f48",
    compute: "#0d6fcf",
    communication: "#79448b",
    copy: "#246358",
    runtime: "#614600",
    host: "#7e2d40",
    step: "#4b5563",
    unattributed: "#737279",
  },
};

export const dark: Palette = {
  dark: true,
  page: "#14161a",
  card: "#1d2026",
  text: "#e8eaee",
  muted: "#a3aab6",
  line: "#353a44",
  accent: "#7db4f5",
  ink: "#101216",
  tones: {
    data_wait: "#eb8124",
    forward: "#6ccdfa",
    backward: "#9d8bec",
    optimizer: "#8cc97b",
    compute: "#4390e8",
    communication: "#e8a1e1",
    copy: "#66c8a5",
    runtime: "#e4cc6b",
    host: "#b4807a",
    step: "#9aa5b5",
    unattributed: "#929b9f",
  },
};
