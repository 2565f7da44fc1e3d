/** TensorBoard around this page, where there is one. Nothing of it is a promised interface, so each part may fail. */

/** The enclosing page's window, if it is one we may look into. */
export const host: Window | null = (() => {
  try {
    return parent !== window && parent.document ? parent : null;
  } catch {
    return null; // of another origin
  }
})();

/** Calls back with whether colours are to be dark, now and at each change; returns what ends that. */
export function watchDark(changed: (isDark: boolean) => void): () => void {
  const around = host?.document;
  return around?.querySelector("tb-webapp") ? watchBody(around.body, changed) : watchSystem(changed);
}

function watchBody(body: HTMLElement, changed: (isDark: boolean) => void): () => void {
  const tell = (): void => changed(body.classList.contains("dark-mode"));
  const observer = new MutationObserver(tell);
  observer.observe(body, { attributes: true, attributeFilter: ["class"] });
  tell();
  return () => observer.disconnect();
}

function watchSystem(changed: (isDark: boolean) => void): () => void {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const tell = (): void => changed(query.matches);
  query.addEventListener("change", tell);
  tell();
  return () => query.removeEventListener("change", tell);
}

interface Message {
  type: string;
  id: number;
  isReply: boolean;
}

/** Calls back with the type of each of TensorBoard's messages; returns what ends that. */
export function onHostMessage(heard: (type: string) => void): () => void {
  if (!host) return () => {};
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }: MessageEvent<string>) => {
    const { type, id, isReply } = JSON.parse(data) as Message;
    if (isReply) return;
    heard(type);
    port1.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
  };
  host.postMessage("experimental.bootstrap", location.origin, [port2]);
  return () => port1.close();
}
