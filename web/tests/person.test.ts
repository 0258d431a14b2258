import { describe, expect, it } from "vitest";
import * as Y from "yjs";

import { cleanName, COLORS, contrast, initials, inkOn, newPerson, parsePeers, parsePerson, ROOT } from "../src/person";

const peersOf = (state: unknown) => parsePeers(new Map([[7, state]]), 1);
const USER = { name: "Ann", color: "#c2255c" };

describe("colours", () => {
  it.each(COLORS)("$name carries white text at AA and stands out on light paper", ({ value }) => {
    expect(contrast(value, "#ffffff")).toBeGreaterThanOrEqual(4.5);
    expect(contrast(value, "#faf8f5")).toBeGreaterThanOrEqual(3);
    expect(inkOn(value)).toBe("#ffffff");
  });

  it("writes dark on a light colour someone else's app chose", () => {
    expect(inkOn("#ffe066")).toBe("#000000");
    expect(contrast("#000000", "#ffffff")).toBeCloseTo(21);
  });
});

describe("people, as anybody may have written them", () => {
  it("leaves out oneself and states without a user", () => {
    expect(
      parsePeers(
        new Map<number, unknown>([
          [1, { user: USER }],
          [2, {}],
          [3, { user: "x" }],
          [4, 5],
          [5, null],
        ]),
        1,
      ),
    ).toEqual([]);
  });

  it("gives a nameless or colourless user something to be seen by", () => {
    const [peer] = peersOf({ user: { color: "red", name: 5 } });
    expect(peer?.name).toBe("Someone");
    expect(peer?.color).toMatch(/^#[0-9a-f]{6}$/);
  });

  it("cleans names of control and direction characters and bounds them", () => {
    expect(cleanName("  A\n\u202eB\u0007  ")).toBe("A B");
    expect(cleanName("x".repeat(1e6))).toHaveLength(40);
    expect(cleanName(" \u200b ")).toBe("");
    expect(parsePerson({ name: "<b>", color: "#FFF" })).toBeNull();
  });

  it("keeps a cursor that y-prosemirror wrote", () => {
    const doc = new Y.Doc();
    const text = new Y.XmlText("hello");
    doc.getXmlFragment(ROOT).push([text]);
    const place: unknown = JSON.parse(JSON.stringify(Y.createRelativePositionFromTypeIndex(text, 2)));
    const cursor = peersOf({ user: USER, cursor: { anchor: place, head: place } })[0]?.cursor;
    expect(
      Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(cursor?.head), doc)?.index,
    ).toBe(2);
  });

  it.each([
    5,
    "x",
    [],
    {},
    { anchor: {}, head: {} },
    { anchor: { tname: "other" }, head: { tname: "other" } },
    { anchor: { item: { client: -1, clock: 0 } }, head: null },
  ])("drops the cursor %j but keeps the person", (cursor) => {
    expect(peersOf({ user: USER, cursor })).toMatchObject([{ name: "Ann", cursor: null }]);
  });
});

it("has one or two letters for every name", () => {
  expect(["Ann Baker", "björn", "Anna Maria Lopez", "😀 smile", "?!"].map(initials)).toEqual([
    "AB",
    "B",
    "AL",
    "S",
    "?",
  ]);
});

it("names newcomers", () => {
  expect(parsePerson(newPerson(Uint32Array.of(5, 9, 3)))).toEqual(newPerson(Uint32Array.of(5, 9, 3)));
});
