import type { ComponentType } from "preact";
import { useLoaded } from "../loaded";
import { useShown } from "../shown";
import { Waiting } from "./Waiting";

const arrived = new Map<string, ComponentType>();

/** What a module that was loaded on demand calls with what it draws. */
export const register = (module: string, view: ComponentType): void => void arrived.set(module, view);

/** A view in a module of its own, which is asked for when the view is first looked at. */
export const onDemand = (module: string): ComponentType =>
  function OnDemand() {
    const { source, cache } = useShown();
    const loaded = useLoaded(cache, `module ${module}`, "", async () => {
      if (!arrived.has(module)) await source.module(module);
      return arrived.get(module)!;
    });
    return <Waiting of={loaded}>{(View) => <View />}</Waiting>;
  };
