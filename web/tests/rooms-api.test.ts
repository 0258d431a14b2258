import { expect, it } from "vitest";

import { parseRoomPage } from "../src/rooms-api";

it("reads a page, with times as seconds or text", () => {
  const page = parseRoomPage({
    rooms: [
      { name: "a", updated_at: 10, bytes: 5, sessions: 2 },
      { name: "b", updated_at: "1970-01-01T00:00:20Z", bytes: -1 },
      { name: 5 },
      null,
    ],
    next: "b",
  });
  expect(page).toEqual({
    rooms: [
      { name: "a", updatedAt: 10_000, bytes: 5, sessions: 2 },
      { name: "b", updatedAt: 20_000, bytes: 0, sessions: 0 },
    ],
    next: "b",
  });
  expect(parseRoomPage({ rooms: [] }).next).toBeNull();
});

it.each([null, [], {}, { rooms: 5 }])("refuses %j", (value) => {
  expect(() => parseRoomPage(value)).toThrow("not a list of rooms");
});
