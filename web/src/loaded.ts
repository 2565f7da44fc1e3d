import { useEffect, useRef, useState } from "preact/hooks";

/** Something on its way. A newer version replaces `value` when it is there; until then the older one is shown. */
export interface Loaded<T> {
  value: T | undefined;
  /** A sentence. */
  error: string | undefined;
  retry(): void;
}

const MOST_KEPT = 12;

/** The latest version of each thing that was loaded already; what was not asked for the longest goes first. */
export class Cache {
  private readonly kept = new Map<string, { version: string; value: unknown }>();

  get<T>(subject: string, version: string): T | undefined {
    const found = this.kept.get(subject);
    if (found?.version !== version) return undefined;
    this.put(subject, version, found.value);
    return found.value as T;
  }

  put(subject: string, version: string, value: unknown): void {
    this.kept.delete(subject);
    this.kept.set(subject, { version, value });
    if (this.kept.size > MOST_KEPT) this.kept.delete(this.kept.keys().next().value!);
  }
}

/**
 * Load what `subject` names, null: nothing yet. It is loaded again when `version` changes, and given up when something
 * else is asked for or the component goes.
 */
export function useLoaded<T>(
  cache: Cache,
  subject: string | null,
  version: string,
  load: (signal: AbortSignal) => Promise<T>,
): Loaded<T> {
  const [, render] = useState({});
  const [attempt, setAttempt] = useState(0);
  const state = useRef<State<T>>({ subject: null });
  if (state.current.subject !== subject) state.current = { subject };
  const known = subject === null ? undefined : cache.get<T>(subject, version);
  if (known !== undefined) state.current.value = known;
  useEffect(() => {
    if (subject === null || known !== undefined) return;
    const controller = new AbortController();
    const settle = (outcome: Partial<State<T>>): void => {
      if (controller.signal.aborted) return;
      if (outcome.value !== undefined) cache.put(subject, version, outcome.value);
      state.current = { value: state.current.value, ...outcome, subject };
      render({});
    };
    load(controller.signal).then(
      (value) => settle({ value }),
      (error: Error) => settle({ error: error.message }),
    );
    return () => controller.abort();
  }, [subject, version, attempt]);
  const { value, error } = state.current;
  return { value, error, retry: () => setAttempt(attempt + 1) };
}

interface State<T> {
  subject: string | null;
  value?: T | undefined;
  error?: string | undefined;
}
