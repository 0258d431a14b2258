import { describe, expect, it } from "vitest";

import { initialSession, step, type Event, type Session } from "../src/session";
import { mayShow, notice, statusOf } from "../src/status";

function after(...events: readonly Event[]): Session {
  return events.reduce((session, event) => step(session, event)[0], initialSession(true));
}

const READ: Event = { type: "copyRead", copy: "kept" };
const LOST: Event = { type: "closed", code: 1006, jitter: 0 };
const DUE: Event = { type: "retryDue" };
const EDIT: Event = { type: "edited" };
const OPEN: readonly Event[] = [
  { type: "opened" },
  { type: "savedCounted", count: 0 },
  { type: "frameSent", frame: "answer" },
  { type: "synced" },
];
const SAVED: Event = { type: "savedCounted", count: 1 };

const close = (code: number): Event => ({ type: "closed", code, jitter: 0 });

describe("statusOf", () => {
  const cases: readonly [string, readonly Event[], string][] = [
    ["reading the copy", [], "connecting"],
    ["dialling", [READ], "connecting"],
    ["open, server not heard", [READ, { type: "opened" }], "syncing"],
    ["answer not durable, nothing written", [READ, ...OPEN], "syncing"],
    ["answer not durable, edits before it", [READ, LOST, EDIT, DUE, ...OPEN], "saving"],
    ["all durable", [READ, ...OPEN, SAVED], "saved"],
    ["an edit under way", [READ, ...OPEN, SAVED, EDIT, { type: "frameSent", frame: "update" }], "saving"],
    ["just lost", [READ, ...OPEN, SAVED, LOST], "reconnecting"],
    ["lost for long", [READ, ...OPEN, SAVED, LOST, DUE, LOST, DUE, LOST, DUE, LOST], "offline"],
    ["no network", [READ, LOST, { type: "browserWentOffline" }], "offline"],
    [
      "a server that does not count",
      [READ, { type: "opened" }, { type: "frameSent", frame: "answer" }, { type: "synced" }],
      "current",
    ],
    ["disk full", [READ, ...OPEN, EDIT, close(4503)], "unsaved"],
    ["disk full, connected again", [READ, ...OPEN, EDIT, close(4503), DUE, ...OPEN], "unsaved"],
    ["disk full no more", [READ, ...OPEN, EDIT, close(4503), DUE, ...OPEN, SAVED], "saved"],
    ["too large", [READ, ...OPEN, EDIT, close(4413)], "stopped"],
  ];
  it.each(cases)("%s", (_name, events, kind) => {
    expect(statusOf(after(...events)).kind).toBe(kind);
  });

  it("says where changes are kept, and does not promise a copy this browser can't make", () => {
    const lost = [...OPEN, SAVED, EDIT, { type: "browserWentOffline" }] as const satisfies readonly Event[];
    expect(statusOf(after(READ, ...lost))).toMatchObject({ label: "Offline", more: ", changes kept" });
    expect(statusOf(after({ type: "copyRead", copy: "unavailable" }, ...lost)).detail).toContain("keep it open");
  });
});

describe("notice", () => {
  it("is silent while things pass by themselves", () => {
    expect(notice(after(READ, ...OPEN, SAVED))).toBeNull();
    expect(notice(after(READ, ...OPEN, EDIT, LOST))).toBeNull();
  });

  it("has its own words for each documented close code", () => {
    const titles = [4400, 4404, 4413, 4415, 4499, 4500, 4503, 4508, 4529].map(
      (code) => notice(after(READ, ...OPEN, EDIT, close(code)))?.title,
    );
    expect(titles).not.toContain(undefined);
    expect(new Set(titles).size).toBe(titles.length);
  });
});

it("shows an empty document only once it is known to be empty, or nobody can tell", () => {
  expect(mayShow(after(), true)).toBe(false);
  expect(mayShow(after(READ), false)).toBe(false);
  expect(mayShow(after(READ), true)).toBe(true);
  expect(mayShow(after(READ, ...OPEN), false)).toBe(true);
  expect(mayShow(after(READ, LOST, DUE, LOST, DUE, LOST, DUE, LOST), false)).toBe(true);
});
