import { linkTo, type Go, type Place } from "../url";
import { VIEWS, type View } from "../views/registry";

/** The views as links, so that one can be opened beside another. */
export function Navigation({ view, place, go }: { view: View; place: Place; go: Go }) {
  return (
    <nav class="views" aria-label="Views">
      {VIEWS.map(({ id, title }, index) => (
        <a
          key={id}
          href={linkTo({ ...place, view: id })}
          aria-current={id === view.id ? "page" : undefined}
          aria-keyshortcuts={`${index + 1}`}
          onClick={(event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            go({ view: id }, true);
          }}
        >
          {title}
        </a>
      ))}
    </nav>
  );
}
