import { Schema } from "@tiptap/pm/model";
import { describe, expect, it } from "vitest";
import * as Y from "yjs";

import { unknownAdditions, unknownContent } from "../src/content-guard";

const SCHEMA = new Schema({
  nodes: { doc: { content: "block+" }, paragraph: { group: "block", content: "text*" }, text: {} },
  marks: { bold: {}, comment: { excludes: "" } },
});

function fragment(): Y.XmlFragment {
  return new Y.Doc().getXmlFragment("default");
}

function paragraph(...parts: { insert: unknown; attributes?: Record<string, unknown> }[]): Y.XmlElement {
  const element = new Y.XmlElement("paragraph");
  const text = new Y.XmlText();
  text.applyDelta(parts);
  element.push([text]);
  return element;
}

describe("unknownContent", () => {
  it("accepts what the schema knows, overlapping marks included", () => {
    const root = fragment();
    root.push([
      paragraph({ insert: "a", attributes: { bold: {} } }, { insert: "b", attributes: { "comment--aB3+/9==": {} } }),
    ]);
    expect(unknownContent(root, SCHEMA)).toEqual([]);
  });

  it("names unknown elements, marks, embeds and text at the root", () => {
    const root = fragment();
    const table = new Y.XmlElement("table");
    root.push([
      table,
      new Y.XmlText("loose"),
      paragraph({ insert: "x", attributes: { glow: true } }, { insert: { image: 1 } }),
    ]);
    expect(unknownContent(root, SCHEMA)).toEqual(["embedded object", "glow", "plain text", "table"]);
  });
});

describe("unknownAdditions", () => {
  it("sees what a change brought, in new elements and in text that was there", () => {
    const root = fragment();
    root.push([paragraph({ insert: "abc" })]);
    const seen: string[][] = [];
    root.observeDeep((events) => seen.push(unknownAdditions(events, SCHEMA)));
    root.push([paragraph({ insert: "fine" })]);
    root.push([new Y.XmlElement("video")]);
    ((root.get(0) as Y.XmlElement).get(0) as Y.XmlText).format(0, 1, { glow: true });
    (root.get(0) as Y.XmlElement).push([new Y.XmlElement("mention")]);
    expect(seen).toEqual([[], ["video"], ["glow"], ["mention"]]);
  });
});
