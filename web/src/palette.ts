/** One colour for one thing, on every surface, in both themes. */

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
