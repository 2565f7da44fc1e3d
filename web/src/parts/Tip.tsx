import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";

/** A term with its definition, shown on hover and on focus; Escape hides it. */
export function Tip({ children, text }: { children: ComponentChildren; text: string }) {
  const id = useId();
  const [side, show] = useState<"" | "left" | "right">("");
  const open = (event: Event): void => {
    const { left } = (event.currentTarget as Element).getBoundingClientRect();
    show(left > innerWidth / 2 ? "right" : "left");
  };
  return (
    <span class="tip" onMouseEnter={open} onMouseLeave={() => show("")}>
      <button
        class="term"
        aria-describedby={id}
        onFocus={open}
        onBlur={() => show("")}
        onKeyDown={(event) => event.key === "Escape" && show("")}
      >
        {children}
      </button>
      <span role="tooltip" id={id} class={`tip-text ${side}`} hidden={!side}>
        {text}
      </span>
    </span>
  );
}
