/** Handing a trace to Perfetto: as a file, or to its page, and to nobody without a click. */

const PERFETTO = "https://ui.perfetto.dev";
const PATIENCE = 60_000; // milliseconds for Perfetto's page to load
const AGAIN = 100; // milliseconds between questions whether it has

/** Whether Perfetto's page can be reached at all. */
export const canOpenPerfetto = (): boolean => navigator.onLine;

/** Let the browser save the file. */
export async function download(blob: Promise<Blob>, name: string): Promise<void> {
  const url = URL.createObjectURL(await blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replace(/[^\w.=-]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), PATIENCE);
}

/**
 * Show the trace in Perfetto's page, in a new window. Call it in the click itself, or the browser blocks the window.
 *
 * The protocol: https://perfetto.dev/docs/visualization/deep-linking-to-perfetto-ui
 */
export async function openInPerfetto(blob: Promise<Blob>, title: string): Promise<void> {
  const page = window.open(PERFETTO);
  if (!page) throw new Error("The browser blocked the window.");
  const [buffer] = await Promise.all([blob.then((found) => found.arrayBuffer()), answer(page)]);
  page.postMessage({ perfetto: { buffer, title } }, PERFETTO, [buffer]);
}

/** Settles when the page answers. Rejects where it does not in a minute. */
function answer(page: Window): Promise<void> {
  return new Promise((resolve, reject) => {
    const asking = setInterval(() => page.postMessage("PING", PERFETTO), AGAIN);
    const end = (settle: () => void): void => {
      clearInterval(asking);
      clearTimeout(waiting);
      removeEventListener("message", hear);
      settle();
    };
    const hear = (event: MessageEvent): void => {
      if (event.origin === PERFETTO && event.source === page && event.data === "PONG") end(resolve);
    };
    const waiting = setTimeout(() => end(() => reject(new Error("Perfetto did not answer."))), PATIENCE);
    addEventListener("message", hear);
  });
}
