import type { Page, Ranks, Report, RunEntry } from "./types";

/**
 * Where the page's data come from: TensorBoard's server, or the file the page lies in. Each promise rejects with an
 * Error whose message is a sentence for the reader, and with an AbortError once its signal is aborted.
 */
export interface Source {
  /** Every run that has a page. */
  runs(signal: AbortSignal): Promise<RunEntry[]>;
  page(run: string, signal: AbortSignal): Promise<Page>;
  /** The whole report of one window, as `profkit report --json` gives it. */
  report(run: string, window: number, signal: AbortSignal): Promise<Report>;
  /** The columnar binary of one window (docs/format.md, "The timeline"), decompressed. */
  timeline(run: string, window: number, signal: AbortSignal): Promise<ArrayBuffer>;
  /** All ranks of the training that the run is one of. */
  ranks(run: string, signal: AbortSignal): Promise<Ranks>;
  /** Has a module of the page run that is loaded on demand. */
  module(name: string): Promise<unknown>;
  /** Calls back whenever there may be something new; returns what ends that. */
  watch(changed: () => void): () => void;
}
