import type { ComponentChildren } from "preact";
import type { Loaded } from "../loaded";

/** What was loaded, else its skeleton, else the sentence that says why not and a button to try again. */
export function Waiting<T>({ of, children }: { of: Loaded<T>; children(value: T): ComponentChildren }) {
  if (of.value !== undefined) return <>{children(of.value)}</>;
  if (of.error === undefined) return <Skeleton />;
  return (
    <div class="card wide" role="alert">
      <p>{of.error}</p>
      <button onClick={of.retry}>Try again</button>
    </div>
  );
}

function Skeleton() {
  return (
    <div class="skeleton wide" role="status">
      <span class="sr">Loading</span>
      <i />
      <i />
      <i />
    </div>
  );
}

/** A sentence where there is nothing to draw, and what to do about it. */
export function Absent({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="card wide">
      <h2>{title}</h2>
      <p>{children}</p>
    </section>
  );
}
