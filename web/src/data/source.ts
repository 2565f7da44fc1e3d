import type { Page, Report, RunEntry } from "./types";

/** Where the page's data come from: TensorBoard's server, or the file the page lies in. */
export interface Source {
  /** Every run that has a page. */
  runs(): Promise<RunEntry[]>;
  page(run: string): Promise<Page>;
  /** The whole report of one window, as `profkit report --json` gives it. */
  report(run: string, window: number): Promise<Report>;
  /** The columnar binary of one window (docs/format.md, "The timeline"), decompressed. */
  timeline(run: string, window: number): Promise<ArrayBuffer>;
  /** Calls back whenever there may be something new; returns what ends that. */
  watch(changed: () => void): () => void;
}
