import { describe, expect, it } from "vitest";

import { isRoomName, newRoomName, pathOf, roomFromInput, routeOf, titleOf } from "../src/room";

describe("addresses", () => {
  it.each(["notes", "a b", "a/b/c", "50% off?", "#1", "ünï 😀", "%2F", "..x"])(
    "brings %j through unchanged",
    (room) => {
      const url = new URL(pathOf(room), "http://host");
      expect(routeOf(url.pathname)).toEqual({ page: "document", room });
      expect(url.search + url.hash).toBe("");
    },
  );

  it("reads slashes that were not encoded as part of the name", () => {
    expect(routeOf("/r/team/notes")).toEqual({ page: "document", room: "team/notes" });
  });

  it("knows what is no document", () => {
    expect(routeOf("/")).toEqual({ page: "start" });
    for (const path of ["/r/", "/r/%", "/r/%FF", "/r/%00", "/x", "/r"])
      expect(routeOf(path)).toEqual({ page: "unknown" });
  });

  it("refuses names that no address can carry", () => {
    for (const name of ["", ".", "..", "\0", "\ud800"]) expect(isRoomName(name)).toBe(false);
  });
});

describe("opening by what someone typed", () => {
  it("takes a name or a link of this site", () => {
    expect(roomFromInput(" my notes ", "http://host")).toBe("my notes");
    expect(roomFromInput("http://host/r/a%2Fb", "http://host")).toBe("a/b");
    expect(roomFromInput("http://host/", "http://host")).toBeNull();
    expect(roomFromInput("  ", "http://host")).toBeNull();
  });
});

it("makes readable titles of slugs and leaves other names alone", () => {
  expect(titleOf("meeting-notes_2")).toBe("Meeting notes 2");
  expect(titleOf("Q3 – plan/draft")).toBe("Q3 – plan/draft");
});

it("makes names that can be said, and a different one each time", () => {
  const names = Array.from({ length: 500 }, () => newRoomName(crypto.getRandomValues(new Uint32Array(6))));
  expect(new Set(names).size).toBe(500);
  for (const name of names) expect(name).toMatch(/^[a-z]+-[a-z]+-[a-z2-9]{4}$/);
});
