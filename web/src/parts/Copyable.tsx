import { useRef, useState } from "preact/hooks";

/** What to change, as code to copy. */
export function Copyable({ text }: { text: string }) {
  const code = useRef<HTMLElement>(null);
  const [said, say] = useState("Copy");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      getSelection()?.selectAllChildren(code.current!); // no clipboard without https: leave one key to press
      say("Press Ctrl+C");
    }
  };
  return (
    <div class="copyable">
      <code ref={code}>{text}</code>
      <button onClick={copy} aria-live="polite">
        {said}
      </button>
    </div>
  );
}
