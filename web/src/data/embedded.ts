import { rankOf } from "./ranks";
import type { Source } from "./source";

const elementOf = (name: string): Element | null => document.getElementById(`profkit-${name}`);

export const hasEmbedded = (): boolean => !!elementOf("runs");

/** The answers that the HTML report brings along: gzip as base64 in script elements that no browser runs. */
export function embedded(): Source {
  const json = async (name: string) => (await unpacked(name)).json();
  return {
    runs: () => json("runs"),
    page: (run) => json(`page${ofRank(run)}`),
    report: (run, window) => json(`report-${window}${ofRank(run)}`),
    timeline: async (run, window) => (await unpacked(`timeline-${window}${ofRank(run)}`)).arrayBuffer(),
    ranks: () => json("ranks"),
    module: async () => document.readyState === "complete" || new Promise((done) => addEventListener("load", done)),
    watch: () => () => {}, // a file does not change
  };
}

/** What the names of a rank end with that is brought along beside the one that the file is about. */
const ofRank = (run: string): string => (rankOf(run) ? `-rank-${rankOf(run)}` : "");

async function unpacked(name: string): Promise<Response> {
  const text = elementOf(name)?.textContent;
  if (!text) throw new Error(`This file holds no ${name.replace("-", " of window ")}.`);
  const packed = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
}
