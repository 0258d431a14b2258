/**
 * Who is here: the awareness states of a room, parsed into peers at most once per frame, however many messages came
 * in. Fifty people typing are then one redraw of carets and names per frame, and none in a tab nobody looks at.
 */
import type { Awareness } from "y-protocols/awareness";

import { oncePerFrame } from "./dom";
import { parsePeers, type Peer, type Person } from "./person";

export class Presence {
  readonly awareness: Awareness;
  #peers: readonly Peer[] = [];
  #person: Person;
  readonly #listeners = new Set<() => void>();

  constructor(awareness: Awareness, person: Person) {
    this.awareness = awareness;
    this.#person = person;
    this.setPerson(person);
    const frame = oncePerFrame(() => {
      this.#peers = parsePeers(awareness.getStates(), awareness.clientID);
      for (const listener of this.#listeners) listener();
    });
    awareness.on("change", frame.schedule);
  }

  /** Everybody but me. */
  get peers(): readonly Peer[] {
    return this.#peers;
  }

  get person(): Person {
    return this.#person;
  }

  setPerson(person: Person): void {
    this.#person = person;
    this.awareness.setLocalStateField("user", { name: person.name, color: person.color });
  }

  /** Calls `listener` in the frame after any change; returns how to stop it. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
