/**
 * A session in words: the status pill, its explanation, what a screen reader hears, and the banner for what needs the
 * person. Pure. Says "saved" only where `isSettled` does.
 */
import { isSettled, type Session } from "./session";

export type StatusKind =
  | "connecting"
  | "syncing"
  | "saving"
  | "saved"
  | "current"
  | "reconnecting"
  | "offline"
  | "unsaved"
  | "stopped";

export interface Status {
  readonly kind: StatusKind;
  /** A word or two. */
  readonly label: string;
  /** The rest of the label, left out where there is no room. */
  readonly more: string;
  /** A sentence for whoever asks. */
  readonly detail: string;
}

export interface Notice {
  readonly title: string;
  readonly text: string;
}

/** So many failures in a row (about three seconds) are no hiccup any more. */
const OFFLINE_AFTER_ATTEMPTS = 4;

export function statusOf(session: Session): Status {
  switch (session.state) {
    case "opening":
      return words("connecting", "Opening…", "", "Looking for a copy of this document in this browser.");
    case "connecting":
    case "waiting":
      return away(session, session.unsaved);
    case "open":
      if (session.trouble !== null && !isSettled(session)) return notTaken(session);
      if (isSettled(session)) {
        return session.acks === "none"
          ? words("current", "Up to date", "", "The server has every change, but does not confirm when it is saved.")
          : words("saved", "Saved", "", "The server has stored every change.");
      }
      return session.wrote
        ? words("saving", "Saving…", "", "The newest changes are on their way to the server.")
        : words("syncing", "Syncing…", "", "Comparing this copy with the server's.");
    case "refused":
      return words("stopped", "Stopped", "", notice(session)?.text ?? "");
    default:
      return unreachable(session);
  }
}

/** What the banner says, or null. Only for what doesn't pass by itself in a moment. */
export function notice(session: Session): Notice | null {
  if (session.state === "refused") return refusal(session.code, session.unsaved ? ` ${keptWhere(session)}` : "");
  if (session.trouble === null || isSettled(session)) return null;
  switch (session.trouble.code) {
    case 4503:
      return {
        title: "The server can’t save right now",
        text: `Trying again automatically. ${keptWhere(session)}`,
      };
    case 4529:
      return { title: "The server is busy", text: `Trying again automatically. ${keptWhere(session)}` };
    case 4500:
      return {
        title: "The server can’t open this document right now",
        text: `Trying again automatically. ${keptWhere(session)}`,
      };
    default:
      return { title: "The server asked to come back later", text: keptWhere(session) };
  }
}

/** May the person type? Not once the server refused for good, unless editing is the way out (too large, unsupported). */
export function mayEdit(session: Session): boolean {
  return session.state !== "refused" || session.code === 4413 || session.code === 4415;
}

/**
 * The document may be shown: it is here already, the server's copy arrived, or the server is plainly out of reach.
 * Earlier, someone could start writing into a document that only looks empty.
 */
export function mayShow(session: Session, holdsContent: boolean): boolean {
  if (session.state === "opening") return false;
  return holdsContent || session.met || session.state === "refused" || statusOf(session).kind === "offline";
}

function away(session: Session, unsaved: boolean): Status {
  if (session.trouble !== null) return notTaken(session);
  if (!session.browserOnline || session.attempts >= OFFLINE_AFTER_ATTEMPTS) {
    const kept = session.copy === "unavailable" ? ", keep this tab open" : ", changes kept";
    return words("offline", "Offline", kept, `The server can’t be reached. ${keptWhere(session)}`);
  }
  if (session.attempts === 0 && !session.met) {
    return words("connecting", "Connecting…", "", "Reaching the server.");
  }
  const detail = `The connection was lost and is tried again.${unsaved ? ` ${keptWhere(session)}` : ""}`;
  return words("reconnecting", "Reconnecting…", "", detail);
}

function notTaken(session: Session): Status {
  return words("unsaved", "Not saved yet", "", `${notice(session)?.title ?? "Not saved yet"}. ${keptWhere(session)}`);
}

function keptWhere(session: Session): string {
  return session.copy === "unavailable"
    ? "Your changes are kept in this tab only: keep it open."
    : "Your changes are kept in this browser.";
}

function refusal(code: number, kept: string): Notice {
  switch (code) {
    case 4400:
      return {
        title: "The server could not read what this page sent",
        text: `Reload the page; if it happens again, this document’s copy in this browser is damaged.${kept}`,
      };
    case 4404:
      return { title: "This is not a name a document can have", text: "It is empty, too long or has odd characters." };
    case 4413:
      return {
        title: "This document has become too large",
        text: `The server takes no more of it. Remove something and try again, or go on in a new document.${kept}`,
      };
    case 4415:
      return {
        title: "This document holds something the server can’t keep",
        text: `Its latest change was not accepted: undo it and try again.${kept}`,
      };
    default:
      return { title: "The server closed this document", text: `It gave the code ${code}.${kept}` };
  }
}

function words(kind: StatusKind, label: string, more: string, detail: string): Status {
  return { kind, label, more, detail };
}

function unreachable(value: never): never {
  throw new Error(`no status for ${JSON.stringify(value)}`);
}
