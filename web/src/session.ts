/**
 * One document's connection as a value: what the server has of our edits, and when to try again. Pure:
 * `step(session, event)` gives the next session and what to do. It owns no timer, no socket and no randomness (the
 * jitter comes in with the event); `socket.ts` and `document-page.ts` run it, it imports neither.
 *
 *   opening ──copyRead──▶ connecting ──opened──▶ open ──closed──▶ waiting ──retryDue──▶ connecting
 *                                                  └──closed 44xx──▶ refused ──retryAsked──▶ connecting
 *
 * Saved is a count (rule R4): the server says how many of this connection's document frames are durable, in order. So
 * everything is saved exactly when our answer to its step 1 was sent (it holds whatever was unsent before) and the
 * count has reached the number sent. Counts die with their connection: after a reconnect the new answer covers all.
 */

/** Where edits survive a closed tab: not known yet, in IndexedDB, or nowhere. */
export type OfflineCopy = "reading" | "kept" | "unavailable";

/** Why the server turned us away for now; remembered until everything is saved. */
export interface Trouble {
  readonly code: number;
}

interface Shared {
  readonly copy: OfflineCopy;
  /** What the browser believes; a hint only, a node on the same machine is reachable without any network. */
  readonly browserOnline: boolean;
  /** The server's document arrived at least once, so an empty one is really empty. */
  readonly met: boolean;
  /** Connections lost or failed since the last one that worked. */
  readonly attempts: number;
  readonly trouble: Trouble | null;
}

export interface Opening extends Shared {
  readonly state: "opening";
}
export interface Connecting extends Shared {
  readonly state: "connecting";
  /** Edits exist that no server has confirmed. */
  readonly unsaved: boolean;
}
export interface Waiting extends Shared {
  readonly state: "waiting";
  readonly unsaved: boolean;
}
export interface Open extends Shared {
  readonly state: "open";
  /** Document frames sent on this connection, and how many of them are durable. */
  readonly sent: number;
  readonly saved: number;
  /** Our answer to the server's step 1 went out: it now has, or will have, everything from before. */
  readonly answered: boolean;
  /** Unsaved edits from before this connection; only the answer carries them. */
  readonly owed: boolean;
  /** Edits of this connection that no frame has carried: each goes out in one update, at once, unless the socket is closing. */
  readonly unsent: number;
  /** Something was written since all was last settled; without it, what is under way is only the greeting. */
  readonly wrote: boolean;
  readonly synced: boolean;
  /** Whether this server counts what it saved; it says so before it syncs, so "synced without a count" means no. */
  readonly acks: "unknown" | "counted" | "none";
}
export interface Refused extends Shared {
  readonly state: "refused";
  readonly code: number;
  readonly unsaved: boolean;
}
export type Session = Opening | Connecting | Waiting | Open | Refused;

export type Event =
  | { readonly type: "copyRead"; readonly copy: Exclude<OfflineCopy, "reading"> }
  | { readonly type: "opened" }
  | { readonly type: "frameSent"; readonly frame: "answer" | "update" }
  | { readonly type: "savedCounted"; readonly count: number }
  | { readonly type: "synced" }
  | { readonly type: "edited" }
  /** `code` is 0 when there was none; `jitter` is a random number in [0, 1). */
  | { readonly type: "closed"; readonly code: number; readonly jitter: number }
  | { readonly type: "retryDue" }
  | { readonly type: "retryAsked" }
  | { readonly type: "browserWentOffline" }
  | { readonly type: "browserCameOnline" };

export type Effect =
  | { readonly do: "connect" }
  | { readonly do: "disconnect" }
  /** Send `retryDue` after this time; replaces an earlier one. */
  | { readonly do: "retryAfter"; readonly delayMs: number };

export type Step = readonly [Session, readonly Effect[]];

/** The first retry is quick: most losses are a node restarting or a phone changing networks. */
export const RETRY_FIRST_MS = 250;
export const RETRY_MAX_MS = 8_000;
/** A node that says "come back later" (45xx) gets this much rest at least. */
export const RETRY_TROUBLE_MS = 3_000;

export function initialSession(browserOnline: boolean): Session {
  return { state: "opening", copy: "reading", browserOnline, met: false, attempts: 0, trouble: null };
}

/** Edits exist here that the server has not called saved. */
export function hasUnsaved(session: Session): boolean {
  switch (session.state) {
    case "opening":
      return false;
    case "connecting":
    case "waiting":
    case "refused":
      return session.unsaved;
    case "open":
      if (session.owed || session.unsent > 0) return true;
      return session.acks === "none" ? false : session.saved < session.sent;
    default:
      return unreachable(session);
  }
}

/** Nothing is owed in either direction: what this tab shows is on the server. */
export function isSettled(session: Session): boolean {
  if (session.state !== "open" || session.owed || session.unsent > 0) return false;
  if (session.acks === "none") return session.synced;
  return session.answered && session.acks === "counted" && session.saved === session.sent;
}

/** Closing the tab now would lose edits: nobody else has them and this browser can't keep them. */
export function mayLoseEdits(session: Session): boolean {
  return session.copy !== "kept" && hasUnsaved(session);
}

export function isFinal(code: number): boolean {
  return code >= 4400 && code < 4500;
}

/** Time before the next attempt: doubling, with half of it random so that a restarted node isn't met by all at once. */
export function retryDelayMs(attempts: number, code: number, jitter: number): number {
  const doubled = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(attempts, 16));
  const delay = isTrouble(code) ? Math.max(RETRY_TROUBLE_MS, doubled) : doubled;
  return Math.round(delay * (0.5 + jitter / 2));
}

export function step(session: Session, event: Event): Step {
  switch (event.type) {
    case "copyRead": {
      const next = { ...session, copy: event.copy };
      return next.state === "opening" ? connect({ ...next, state: "connecting", unsaved: false }) : [next, []];
    }
    case "opened":
      if (session.state !== "connecting") return [session, []];
      return [
        {
          ...shared(session),
          state: "open",
          sent: 0,
          saved: 0,
          answered: false,
          owed: session.unsaved,
          unsent: 0,
          wrote: session.unsaved,
          synced: false,
          acks: "unknown",
        },
        [],
      ];
    case "frameSent":
      if (session.state !== "open") return [session, []];
      // An answer holds everything the server lacked; an update holds only itself.
      return event.frame === "answer"
        ? [{ ...session, sent: session.sent + 1, answered: true, owed: false, unsent: 0 }, []]
        : [{ ...session, sent: session.sent + 1, unsent: Math.max(0, session.unsent - 1) }, []];
    case "savedCounted":
      // More than was sent can't be about this connection, so it is not believed.
      if (session.state !== "open" || event.count > session.sent) return [session, []];
      return [rested({ ...session, acks: "counted", saved: Math.max(session.saved, event.count) }), []];
    case "synced":
      if (session.state !== "open") return [session, []];
      return [
        rested({
          ...session,
          synced: true,
          met: true,
          attempts: session.trouble === null ? 0 : session.attempts,
          acks: session.acks === "unknown" ? "none" : session.acks,
        }),
        [],
      ];
    case "edited":
      switch (session.state) {
        case "opening":
          return [session, []];
        case "connecting":
        case "waiting":
        case "refused":
          return [{ ...session, unsaved: true }, []];
        case "open":
          return [{ ...session, unsent: session.unsent + 1, wrote: true }, []];
        default:
          return unreachable(session);
      }
    case "closed":
      return closed(session, event.code, event.jitter);
    case "retryDue":
      return session.state === "waiting" ? connect({ ...session, state: "connecting" }) : [session, []];
    case "retryAsked":
      if (session.state !== "waiting" && session.state !== "refused") return [session, []];
      return connect({ ...shared(session), state: "connecting", unsaved: session.unsaved, attempts: 0, trouble: null });
    case "browserWentOffline": {
      const next = { ...session, browserOnline: false };
      if (next.state !== "open") return [next, []];
      // A dead network leaves the socket looking alive for half a minute. Dialling again tells at once, and costs one
      // reconnect where the server was reachable after all.
      const again: Connecting = { ...shared(next), state: "connecting", unsaved: hasUnsaved(next) };
      return [again, [{ do: "disconnect" }, { do: "connect" }]];
    }
    case "browserCameOnline": {
      const next = { ...session, browserOnline: true };
      return next.state === "waiting" ? connect({ ...next, state: "connecting" }) : [next, []];
    }
    default:
      return unreachable(event);
  }
}

function closed(session: Session, code: number, jitter: number): Step {
  if (session.state !== "open" && session.state !== "connecting") return [session, []];
  const unsaved = hasUnsaved(session);
  if (isFinal(code)) return [{ ...shared(session), state: "refused", code, unsaved }, []];
  const waiting: Waiting = {
    ...shared(session),
    state: "waiting",
    attempts: session.attempts + 1,
    trouble: isTrouble(code) ? { code } : session.trouble,
    unsaved,
  };
  return [waiting, [{ do: "retryAfter", delayMs: retryDelayMs(session.attempts, code, jitter) }]];
}

function connect(session: Connecting): Step {
  return [session, [{ do: "connect" }]];
}

/** The one place where a good connection wipes the memory of bad ones. */
function rested(session: Open): Open {
  return isSettled(session) ? { ...session, attempts: 0, trouble: null, wrote: false } : session;
}

function shared(session: Session): Shared {
  const { copy, browserOnline, met, attempts, trouble } = session;
  return { copy, browserOnline, met, attempts, trouble };
}

function isTrouble(code: number): boolean {
  return code >= 4500 && code < 4600;
}

function unreachable(value: never): never {
  throw new Error(`no case for ${JSON.stringify(value)}`);
}
