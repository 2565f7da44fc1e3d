import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Source } from "./data/source";
import type { Page, Report, RunEntry, WindowEntry } from "./data/types";
import { useLoaded, type Cache, type Loaded } from "./loaded";
import type { Palette } from "./palette";
import type { Go, Place } from "./url";

/** What the views show, and how they move on. */
export interface Shown {
  source: Source;
  cache: Cache;
  palette: Palette;
  place: Place;
  go: Go;
  runs: RunEntry[];
  run: string;
  page: Page;
  /** The chosen window; null: the run has none. */
  window: WindowEntry | null;
}

export const ShownContext = createContext<Shown | null>(null);

export const useShown = (): Shown => useContext(ShownContext)!;

/** What belongs to the chosen window. It is written once, so that the run's newer pages do not bring it again. */
export function useOfWindow<T>(
  what: string,
  load: (source: Source, run: string, window: number, signal: AbortSignal) => Promise<T>,
): Loaded<T> {
  const { source, cache, run, window } = useShown();
  const version = window ? `${window.start_ns} ${window.timeline_bytes}` : "";
  const subject = window && `${what} ${run} ${window.window}`;
  return useLoaded(cache, subject, version, (signal) => load(source, run, window!.window, signal));
}

export const useReport = (): Loaded<Report> =>
  useOfWindow("report", (source, run, window, signal) => source.report(run, window, signal));
