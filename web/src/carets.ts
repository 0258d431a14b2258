/**
 * Other people's carets and selections in the text. Uses the Yjs binding's cursor plugin, fed by `Presence` instead of
 * raw awareness: parsed states only (the plugin throws on malformed ones, for everybody in the room) and one redraw a
 * frame.
 */
import { Extension } from "@tiptap/core";
import { yCursorPlugin } from "@tiptap/y-tiptap";

import { h, oncePerFrame, setAttr } from "./dom";
import { inkOn, type Person } from "./person";
import type { Presence } from "./presence";

/** Beyond this a page is a forest of flags, and each costs layout; the list of people still has everybody. */
const CARETS_MAX = 60;

/** Closer than this to the right edge, a name (at most 180 px, prose.css) is written to the left of its caret. */
const NAME_ROOM_PX = 130;

export function carets(presence: Presence): Extension {
  // The plugin keeps a caret's element while its client stays, so a new name or colour is painted onto it here.
  const drawn = new Map<number, HTMLElement>();
  return Extension.create({
    name: "carets",
    onCreate() {
      const stop = presence.subscribe(() => {
        const here = new Map(presence.peers.map((peer) => [peer.clientId, peer]));
        for (const [clientId, element] of drawn) {
          const peer = here.get(clientId);
          if (peer === undefined) drawn.delete(clientId);
          else paint(element, peer);
        }
      });
      // All reads, then all writes, once a frame: however many carets moved, the page is laid out once more at most.
      const turn = oncePerFrame(() => {
        const edge = this.editor.view.dom.getBoundingClientRect().right - NAME_ROOM_PX;
        const places = [...drawn.values()].map((element) => [element, element.getBoundingClientRect().left] as const);
        for (const [element, left] of places) element.classList.toggle("flipped", left > edge);
      });
      this.editor.on("transaction", turn.schedule);
      this.editor.on("destroy", () => {
        stop();
        turn.cancel();
      });
    },
    addProseMirrorPlugins: () => [
      yCursorPlugin(new CaretFeed(presence) as never, {
        cursorBuilder: (user: Person, clientId: number) => {
          // Hidden from screen readers: a name in the middle of a word is no part of the text. Who is here is told by
          // the people button.
          const element = h("span", { class: "caret", attrs: { "aria-hidden": "true" } });
          paint(element, user);
          drawn.set(clientId, element);
          return element;
        },
        selectionBuilder: (user: Person) => ({ class: "peer-selection", style: `--peer: ${user.color}` }),
      }),
    ],
  });
}

function paint(caret: HTMLElement, person: Person): void {
  caret.style.setProperty("--peer", person.color);
  caret.style.setProperty("--peer-ink", inkOn(person.color));
  // Drawn by the style sheet, so that it is never copied or found as text.
  setAttr(caret, "data-name", person.name);
}

/** The four methods of an awareness that the cursor plugin uses. */
class CaretFeed {
  readonly #presence: Presence;
  readonly #stops = new Map<() => void, () => void>();

  constructor(presence: Presence) {
    this.#presence = presence;
  }

  getStates(): Map<number, { user: Person; cursor: unknown }> {
    const shown = this.#presence.peers.filter((peer) => peer.cursor !== null).slice(0, CARETS_MAX);
    return new Map(
      shown.map((peer) => [peer.clientId, { user: { name: peer.name, color: peer.color }, cursor: peer.cursor }]),
    );
  }

  getLocalState(): Record<string, unknown> | null {
    return this.#presence.awareness.getLocalState();
  }

  setLocalStateField(field: string, value: unknown): void {
    this.#presence.awareness.setLocalStateField(field, value);
  }

  on(_event: "change", listener: () => void): void {
    this.#stops.set(listener, this.#presence.subscribe(listener));
  }

  off(_event: "change", listener: () => void): void {
    this.#stops.get(listener)?.();
    this.#stops.delete(listener);
  }
}
