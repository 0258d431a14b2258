/**
 * The one file that touches a WebSocket. Wraps y-websocket's provider: counts the document frames it sends, reads the
 * server's count of saved ones, and reports both to the session machine, which alone decides when to reconnect.
 */
import type { Awareness } from "y-protocols/awareness";
import { WebsocketProvider } from "y-websocket";
import type * as Y from "yjs";

import { documentFrame, MESSAGE_SAVED, savedCount } from "./protocol";
import type { Event } from "./session";

/** The part of a session's events that comes from the wire; `closed` without the jitter. */
export type WireEvent =
  | Extract<Event, { type: "opened" | "frameSent" | "savedCounted" | "synced" }>
  | { readonly type: "closed"; readonly code: number };

export class DocumentSocket {
  readonly #provider: WebsocketProvider;
  #hangingUp = false;

  constructor(room: string, doc: Y.Doc, awareness: Awareness, report: (event: WireEvent) => void) {
    const provider = new WebsocketProvider(
      `${location.origin.replace(/^http/, "ws")}/ws`,
      encodeURIComponent(room),
      doc,
      {
        awareness,
        connect: false,
        params: { saved: "1" },
        // Two tabs would otherwise pass edits between them past the server: a tab could show as saved what only
        // another, disconnected tab was to send.
        disableBc: true,
        WebSocketPolyfill: countingSocket((frame) => report({ type: "frameSent", frame })),
      },
    );
    let returning = false;
    provider.on("status", ({ status }) => {
      if (status !== "connected") return;
      report({ type: "opened" });
      // A returning client's presence is ignored at a clock others have buried (y-protocols), so raise it.
      if (returning) awareness.setLocalState(awareness.getLocalState());
      returning = true;
    });
    provider.on("sync", (synced: boolean) => {
      if (synced) report({ type: "synced" });
    });
    provider.on("connection-close", (event) => {
      // The session machine redials; the provider's own timer finds this false and does nothing.
      provider.shouldConnect = false;
      if (!this.#hangingUp) report({ type: "closed", code: event?.code ?? 0 });
    });
    provider.messageHandlers[MESSAGE_SAVED] = (_encoder, decoder) => {
      const count = savedCount(decoder.arr.subarray(decoder.pos));
      if (count !== null) report({ type: "savedCounted", count });
    };
    this.#provider = provider;
  }

  /** The transaction origin of everything that came from the server. */
  get origin(): object {
    return this.#provider;
  }

  connect(): void {
    this.#provider.connect();
  }

  /** Closes without reporting it: whoever asked knows. */
  disconnect(): void {
    this.#hangingUp = true;
    this.#provider.disconnect();
    this.#hangingUp = false;
  }
}

/** A WebSocket that tells of each document frame it was given to send. */
function countingSocket(sent: (frame: "answer" | "update") => void): typeof WebSocket {
  return class CountingSocket extends WebSocket {
    override send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void {
      super.send(data as ArrayBuffer);
      const frame = data instanceof Uint8Array ? documentFrame(data) : null;
      if (frame !== null) sent(frame);
    }
  };
}
