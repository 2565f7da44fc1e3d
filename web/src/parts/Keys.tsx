import { useEffect, useRef } from "preact/hooks";
import { TIMELINE_KEYS } from "../timeline/keys";
import { VIEWS } from "../views/registry";

/** All keys, in a dialog. */
export function Keys({ close }: { close(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  const general: [string, string][] = [
    [`1 – ${VIEWS.length}`, VIEWS.map(({ title }) => title).join(", ")],
    ["/", "search"],
    ["?", "this list"],
  ];
  return (
    <dialog ref={dialog} class="keys" aria-labelledby="keys" onClose={close}>
      <h2 id="keys">Keys</h2>
      <KeyList title="Everywhere" keys={general} />
      <KeyList title="In the timeline" keys={TIMELINE_KEYS} />
      <form method="dialog">
        <button>Close</button>
      </form>
    </dialog>
  );
}

function KeyList({ title, keys }: { title: string; keys: [keys: string, meaning: string][] }) {
  return (
    <>
      <h3>{title}</h3>
      <dl>
        {keys.map(([key, meaning]) => (
          <div key={key}>
            <dt>{key.split(" ").map((one) => (one === "–" ? " – " : <kbd key={one}>{one}</kbd>))}</dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}
