import type { Source } from "./source";

const elementOf = (name: string): Element | null => document.getElementById(`profkit-${name}`);

export const hasEmbedded = (): boolean => !!elementOf("runs");

/** The answers that the HTML report brings along: gzip as base64 in script elements that no browser runs. */
export function embedded(): Source {
  const json = async (name: string) => (await unpacked(name)).json();
  return {
    runs: () => json("runs"),
    page: () => json("page"),
    report: (_run, window) => json(`report-${window}`),
    timeline: async (_run, window) => (await unpacked(`timeline-${window}`)).arrayBuffer(),
    ranks: () => json("ranks"),
    module: async () => document.readyState === "complete" || new Promise((done) => addEventListener("load", done)),
    watch: () => () => {}, // a file does not change
  };
}

async function unpacked(name: string): Promise<Response> {
  const text = elementOf(name)?.textContent;
  if (!text) throw new Error(`This file holds no ${name.replace("-", " of window ")}.`);
  const packed = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
}
