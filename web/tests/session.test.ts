import { describe, expect, it } from "vitest";

import {
  hasUnsaved,
  initialSession,
  isSettled,
  mayLoseEdits,
  RETRY_FIRST_MS,
  RETRY_MAX_MS,
  RETRY_TROUBLE_MS,
  retryDelayMs,
  step,
  type Effect,
  type Event,
  type Session,
} from "../src/session";

const ANSWER: Event = { type: "frameSent", frame: "answer" };
const UPDATE: Event = { type: "frameSent", frame: "update" };
const EDIT: Event = { type: "edited" };
const OPENED: Event = { type: "opened" };
const SYNCED: Event = { type: "synced" };
const READ: Event = { type: "copyRead", copy: "kept" };
const DUE: Event = { type: "retryDue" };
const saved = (count: number): Event => ({ type: "savedCounted", count });
const closed = (code = 1006): Event => ({ type: "closed", code, jitter: 1 });

function run(...events: readonly Event[]): { session: Session; effects: readonly Effect[] } {
  let session = initialSession(true);
  let effects: readonly Effect[] = [];
  for (const event of events) [session, effects] = step(session, event);
  return { session, effects };
}

/** What a client meets on each connection to a server that counts: its offer to count, the answer, the document. */
const CONNECTED = [OPENED, saved(0), ANSWER, SYNCED] as const;

describe("opening", () => {
  it("dials once the offline copy is read, so that the server is told what it lacks at once", () => {
    expect(run().session.state).toBe("opening");
    const { session, effects } = run(READ);
    expect(session.state).toBe("connecting");
    expect(effects).toEqual([{ do: "connect" }]);
  });

  it("does not dial again when a slow copy arrives after all", () => {
    const { session, effects } = run({ type: "copyRead", copy: "unavailable" }, ...CONNECTED, READ);
    expect(effects).toEqual([]);
    expect(session).toMatchObject({ state: "open", copy: "kept" });
  });
});

describe("saved is a count", () => {
  it("is not settled before the answer to the server's step 1 is durable, even with nothing written", () => {
    expect(isSettled(run(READ, OPENED, saved(0)).session)).toBe(false);
    expect(isSettled(run(READ, ...CONNECTED).session)).toBe(false);
    expect(isSettled(run(READ, ...CONNECTED, saved(1)).session)).toBe(true);
  });

  it("is unsaved from the edit until the frame that carries it is counted", () => {
    const base = [READ, ...CONNECTED, saved(1)];
    expect(hasUnsaved(run(...base, EDIT).session)).toBe(true);
    expect(hasUnsaved(run(...base, EDIT, UPDATE).session)).toBe(true);
    expect(hasUnsaved(run(...base, EDIT, UPDATE, EDIT, UPDATE, saved(2)).session)).toBe(true);
    const done = run(...base, EDIT, UPDATE, EDIT, UPDATE, saved(3)).session;
    expect([hasUnsaved(done), isSettled(done)]).toEqual([false, true]);
  });

  it("stays unsaved when an edit finds the socket closing and no frame goes out", () => {
    const { session } = run(READ, ...CONNECTED, saved(1), EDIT, closed());
    expect(session).toMatchObject({ state: "waiting", unsaved: true });
  });

  it("never goes back and never believes more than was sent", () => {
    const base = [READ, ...CONNECTED, saved(1), EDIT, UPDATE] as const;
    expect(isSettled(run(...base, saved(7)).session)).toBe(false);
    expect(run(...base, saved(2), saved(1)).session).toMatchObject({ saved: 2 });
  });

  it("starts from nothing on each connection: old counts say nothing about it", () => {
    const again = run(READ, ...CONNECTED, EDIT, UPDATE, UPDATE, saved(1), closed(), DUE, OPENED).session;
    expect(again).toMatchObject({ state: "open", sent: 0, saved: 0 });
    expect(hasUnsaved(again)).toBe(true);
  });

  it("counts what was written offline as saved only with the answer, not with a later update alone", () => {
    const offline = [READ, ...CONNECTED, saved(1), closed(), EDIT, DUE, OPENED, saved(0)] as const;
    expect(hasUnsaved(run(...offline, EDIT, UPDATE, saved(1)).session)).toBe(true);
    const answered = run(...offline, EDIT, UPDATE, ANSWER, saved(1)).session;
    expect(isSettled(answered)).toBe(false);
    expect(isSettled(step(answered, saved(2))[0])).toBe(true);
  });

  it("takes synced as the best known from a server that does not count", () => {
    const base = [READ, OPENED, ANSWER] as const;
    expect(isSettled(run(...base).session)).toBe(false);
    expect(run(...base, SYNCED).session).toMatchObject({ acks: "none" });
    expect(isSettled(run(...base, SYNCED).session)).toBe(true);
    expect(hasUnsaved(run(...base, SYNCED, EDIT, UPDATE).session)).toBe(false);
  });
});

describe("losing the connection", () => {
  it("keeps in mind what was unsaved", () => {
    expect(run(READ, ...CONNECTED, saved(1), closed()).session).toMatchObject({ state: "waiting", unsaved: false });
    expect(run(READ, ...CONNECTED, closed()).session).toMatchObject({ state: "waiting", unsaved: true });
    expect(run(READ, ...CONNECTED, saved(1), closed(), EDIT, DUE).session).toMatchObject({
      state: "connecting",
      unsaved: true,
    });
  });

  it("waits longer each time, and starts over once a connection worked", () => {
    const lost = run(READ, closed(), DUE, closed(), DUE, closed());
    expect(lost.effects).toEqual([{ do: "retryAfter", delayMs: RETRY_FIRST_MS * 4 }]);
    const after = run(READ, closed(), DUE, closed(), DUE, ...CONNECTED, closed());
    expect(after.effects).toEqual([{ do: "retryAfter", delayMs: RETRY_FIRST_MS }]);
  });

  it("ignores a timer that fires too late", () => {
    expect(run(READ, ...CONNECTED, DUE).session.state).toBe("open");
  });

  it.each([4400, 4404, 4413, 4415, 4499])("stops for good on %d until asked", (code) => {
    const { session, effects } = run(READ, ...CONNECTED, EDIT, UPDATE, closed(code));
    expect(session).toMatchObject({ state: "refused", code, unsaved: true });
    expect(effects).toEqual([]);
    expect(step(session, { type: "browserCameOnline" })[1]).toEqual([]);
    expect(step(session, { type: "retryAsked" })[1]).toEqual([{ do: "connect" }]);
  });

  it.each([1001, 1006, 1011, 4500, 4503, 4508, 4529, 0])("comes back after %d", (code) => {
    expect(run(READ, ...CONNECTED, closed(code)).session.state).toBe("waiting");
  });

  it("remembers that the server can't save until everything is saved, not just until it opens", () => {
    const refused = [READ, ...CONNECTED, EDIT, UPDATE, closed(4503), DUE] as const;
    expect(run(...refused, ...CONNECTED).session.trouble).toEqual({ code: 4503 });
    expect(run(...refused, ...CONNECTED, saved(1)).session).toMatchObject({ trouble: null, attempts: 0 });
  });
});

describe("the browser's own idea of the network", () => {
  it("dials again at once when it says offline, for a dead socket looks alive", () => {
    const { session, effects } = run(READ, ...CONNECTED, saved(1), EDIT, UPDATE, { type: "browserWentOffline" });
    expect(session).toMatchObject({ state: "connecting", browserOnline: false, unsaved: true });
    expect(effects).toEqual([{ do: "disconnect" }, { do: "connect" }]);
  });

  it("does not wait for the timer when it says online again", () => {
    const { session, effects } = run(READ, closed(), { type: "browserWentOffline" }, { type: "browserCameOnline" });
    expect(session.state).toBe("connecting");
    expect(effects).toEqual([{ do: "connect" }]);
  });
});

describe("retryDelayMs", () => {
  it("is bounded, never zero, and spread by the jitter", () => {
    for (let attempts = 0; attempts < 2000; attempts += 7) {
      for (const jitter of [0, 0.5, 0.999]) {
        const delay = retryDelayMs(attempts, 1006, jitter);
        expect(delay).toBeGreaterThanOrEqual(RETRY_FIRST_MS / 2);
        expect(delay).toBeLessThanOrEqual(RETRY_MAX_MS);
      }
    }
    expect(retryDelayMs(0, 4503, 1)).toBe(RETRY_TROUBLE_MS);
    expect(retryDelayMs(3, 1006, 0)).toBeLessThan(retryDelayMs(3, 1006, 0.9));
  });
});

it("warns before closing only when edits are nowhere else", () => {
  const lost = [...CONNECTED, EDIT, closed()];
  expect(mayLoseEdits(run({ type: "copyRead", copy: "unavailable" }, ...lost).session)).toBe(true);
  expect(mayLoseEdits(run(READ, ...lost).session)).toBe(false);
});

/**
 * A random world: a server that stores a prefix of what arrives, connections that die at any moment. Whatever happens,
 * the session must never call settled what the server hasn't stored.
 */
it("never says saved too early, in any order of events", () => {
  let settledSeen = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const random = mulberry32(seed);
    let session = initialSession(true);
    let edits = 0;
    /** What each frame of this connection carries, how many of them are stored, and all edits ever stored. */
    let frames: (readonly number[])[] = [];
    let kept = 0;
    const stored = new Set<number>();
    const feed = (event: Event): void => {
      [session] = step(session, event);
    };
    feed(READ);
    for (let at = 0; at < 200; at++) {
      const dice = random();
      if (dice < 0.2) {
        feed(EDIT);
        // Now and then the socket is closing already and the edit goes nowhere.
        if (session.state === "open" && random() < 0.95) {
          frames.push([edits]);
          feed(UPDATE);
        }
        edits++;
      } else if (dice < 0.4) {
        if (session.state !== "connecting") continue;
        frames = [];
        kept = 0;
        feed(OPENED);
        feed(saved(0));
      } else if (dice < 0.5) {
        if (session.state !== "open") continue;
        frames.push(Array.from({ length: edits }, (_, edit) => edit));
        feed(ANSWER);
        feed(SYNCED);
      } else if (dice < 0.8) {
        if (session.state !== "open" || kept === frames.length) continue;
        const upTo = kept + 1 + Math.floor(random() * (frames.length - kept));
        for (const edit of frames.slice(kept, upTo).flat()) stored.add(edit);
        kept = upTo;
        feed(saved(kept));
      } else if (dice < 0.84) {
        feed(closed(random() < 0.2 ? 4503 : 1006));
      } else if (dice < 0.96) {
        feed(DUE);
      } else {
        feed({ type: random() < 0.5 ? "browserWentOffline" : "browserCameOnline" });
      }
      if (isSettled(session)) {
        settledSeen++;
        expect({ seed, at, stored: stored.size }).toEqual({ seed, at, stored: edits });
        expect(hasUnsaved(session)).toBe(false);
      }
    }
  }
  expect(settledSeen).toBeGreaterThan(500);
});

function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
