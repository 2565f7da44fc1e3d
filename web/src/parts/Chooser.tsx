import { useEffect, useId, useRef, useState } from "preact/hooks";

export interface Choice {
  value: string;
  text: string;
  hint?: string;
}

interface ChooserProps {
  label: string;
  choices: Choice[];
  value: string;
  choose(value: string): void;
}

/** One of many: a button that opens a list which what is typed filters. One choice alone is only said. */
export function Chooser({ label, choices, value, choose }: ChooserProps) {
  const [isOpen, open] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const text = choices.find((choice) => choice.value === value)?.text ?? value;
  const close = (chosen?: string): void => {
    open(false);
    button.current?.focus();
    if (chosen !== undefined) choose(chosen);
  };
  if (choices.length < 2)
    return (
      <span class="chosen" title={text}>
        <small>{label}</small> {text}
      </span>
    );
  return (
    <div
      class="chooser"
      onFocusOut={(event) => !event.currentTarget.contains(event.relatedTarget as Node) && open(false)}
    >
      <button
        ref={button}
        class="chosen"
        title={text}
        aria-haspopup="listbox"
        aria-expanded={isOpen}
        onClick={() => open(!isOpen)}
      >
        <small>{label}</small> {text} <span aria-hidden="true">▾</span>
      </button>
      {isOpen && <List {...{ label, choices, value, close }} />}
    </div>
  );
}

function List({ label, choices, value, close }: Omit<ChooserProps, "choose"> & { close(chosen?: string): void }) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [typed, type] = useState("");
  const found = choices.filter(({ text }) => text.toLowerCase().includes(typed.toLowerCase()));
  const [active, setActive] = useState(() => choices.findIndex((choice) => choice.value === value));
  useEffect(() => input.current!.focus(), []);
  useEffect(() => document.getElementById(`${id}-${active}`)?.scrollIntoView({ block: "nearest" }), [active]);
  const press = (event: KeyboardEvent): void => {
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (move) setActive(Math.min(Math.max(active + move, 0), found.length - 1));
    else if (event.key === "Enter") close(found[active]?.value);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="list">
      <input
        ref={input}
        role="combobox"
        aria-label={`${label}: type to filter ${choices.length}`}
        aria-expanded="true"
        aria-controls={id}
        aria-activedescendant={found[active] ? `${id}-${active}` : undefined}
        placeholder={`Filter ${choices.length}`}
        value={typed}
        onInput={(event) => {
          type(event.currentTarget.value);
          setActive(0);
        }}
        onKeyDown={press}
      />
      <ul role="listbox" id={id} aria-label={label}>
        {found.map((choice, index) => (
          <li
            key={choice.value}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === active}
            class={choice.value === value ? "current" : ""}
            onMouseDown={(event) => {
              event.preventDefault();
              close(choice.value);
            }}
          >
            {choice.text} {choice.hint && <small>{choice.hint}</small>}
          </li>
        ))}
      </ul>
      {!found.length && <p role="status">None has “{typed}”.</p>}
    </div>
  );
}
