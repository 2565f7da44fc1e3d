import { onHostMessage } from "../host";
import type { Source } from "./source";
import type { Page } from "./types";

const POLL = 5_000; // milliseconds
const SILENT = "TensorBoard does not answer. Is it still running?";
const NEWS = ["experimental.DataReloaded", "experimental.RunsChanged"];

/** The plugin's routes, found from where this script lies, so that a path prefix is no concern. */
export function tensorboard(): Source {
  const base = new URL("..", import.meta.url);
  const running = new Set<string>(); // runs whose page said so
  const ask = (route: string, query: Record<string, string>, signal: AbortSignal): Promise<Response> =>
    answer(new URL(`${route}?${new URLSearchParams(query)}`, base), signal);
  return {
    runs: async (signal) => (await ask("runs", {}, signal)).json(),
    async page(run, signal) {
      const page: Page = await (await ask("page", { run }, signal)).json();
      running[page.report.state === "running" ? "add" : "delete"](run);
      return page;
    },
    report: async (run, window, signal) => (await ask("report", { run, window: `${window}` }, signal)).json(),
    timeline: async (run, window, signal) =>
      (await ask("timeline", { run, window: `${window}` }, signal)).arrayBuffer(),
    ranks: async (run, signal) => (await ask("ranks", { run }, signal)).json(),
    module: (name) =>
      import(`${new URL(`${name}.js`, import.meta.url)}`).catch(() => {
        throw new Error(SILENT);
      }),
    watch(changed) {
      const endMessages = onHostMessage((type) => NEWS.includes(type) && changed());
      const timer = setInterval(() => running.size && !document.hidden && changed(), POLL);
      return () => {
        endMessages();
        clearInterval(timer);
      };
    },
  };
}

/** The response, if it is a good one. Rejects with a sentence. */
async function answer(url: URL, signal: AbortSignal): Promise<Response> {
  const response = await fetch(url, { signal }).catch((error: Error) => {
    throw signal.aborted ? error : new Error(SILENT);
  });
  if (response.ok) return response;
  const said: { error?: string } = await response.json().catch(() => ({}));
  throw new Error(`TensorBoard answered ${response.status}: ${said.error ?? response.statusText}.`);
}
