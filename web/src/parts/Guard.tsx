import { Component, type ComponentChildren } from "preact";

/** Says so where a view fails, and leaves the rest of the page as it is. */
export class Guard extends Component<{ children: ComponentChildren }, { error?: string }> {
  override componentDidCatch(error: Error): void {
    console.error(error);
    this.setState({ error: error.message });
  }

  override render() {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return (
      <p class="card wide" role="alert">
        This view could not be drawn: {error}. The other views are not concerned.
      </p>
    );
  }
}
