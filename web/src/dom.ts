/** Builds elements in one expression. Text goes in as text nodes only, so nothing anybody typed is ever parsed as HTML. */

type Child = Node | string | null;

interface Props {
  readonly class?: string;
  /** Any attribute; false and null leave it out, true gives it without a value. */
  readonly attrs?: Readonly<Record<string, string | boolean | null>>;
  readonly on?: { readonly [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };
}

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (props.class !== undefined) element.className = props.class;
  for (const [name, value] of Object.entries(props.attrs ?? {})) {
    if (value === true) element.setAttribute(name, "");
    else if (typeof value === "string") element.setAttribute(name, value);
  }
  for (const [name, listener] of Object.entries(props.on ?? {})) {
    element.addEventListener(name, listener as EventListener);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Sets an attribute only when it changes: writing the same value would still make a screen reader look again. */
export function setAttr(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Runs `work` once in the next frame however often the returned function is called before it. */
export function oncePerFrame(work: () => void): { schedule: () => void; cancel: () => void } {
  let frame = 0;
  return {
    schedule: () => {
      if (frame === 0) {
        frame = requestAnimationFrame(() => {
          frame = 0;
          work();
        });
      }
    },
    cancel: () => {
      cancelAnimationFrame(frame);
      frame = 0;
    },
  };
}
