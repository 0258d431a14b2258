/**
 * Finds content this editor's schema doesn't know. The Yjs binding deletes from the shared document whatever it can't
 * build a node for, so merely opening a document another app writes tables into would remove them for everybody. The
 * editor is therefore not mounted over such content, and taken down the moment some arrives.
 */
import type { Schema } from "@tiptap/pm/model";
import * as Y from "yjs";

/** Names of unknown elements, marks and embeds anywhere in `fragment`, sorted; empty means safe to open. */
export function unknownContent(fragment: Y.XmlFragment, schema: Schema): string[] {
  const unknown = new Set<string>();
  visitAll(fragment.toArray(), schema, unknown, true);
  return [...unknown].sort();
}

/** The same for what a change added, without walking the rest of the document. */
export function unknownAdditions(events: readonly Y.YEvent<Y.AbstractType<unknown>>[], schema: Schema): string[] {
  const unknown = new Set<string>();
  for (const event of events) {
    if (event.target instanceof Y.XmlText) {
      visit(event.target, schema, unknown);
    } else {
      const added = [...event.changes.added].flatMap((item) => item.content.getContent());
      visitAll(added, schema, unknown, !(event.target instanceof Y.XmlElement));
    }
  }
  return [...unknown].sort();
}

function visitAll(children: readonly unknown[], schema: Schema, unknown: Set<string>, atRoot: boolean): void {
  for (const child of children) {
    // The binding reads only elements at the root; anything else there (someone's plain text) makes it throw.
    if (atRoot && !(child instanceof Y.XmlElement)) unknown.add("plain text");
    else visit(child, schema, unknown);
  }
}

function visit(node: unknown, schema: Schema, unknown: Set<string>): void {
  if (node instanceof Y.XmlElement) {
    if (!(node.nodeName in schema.nodes)) unknown.add(node.nodeName);
    visitAll(node.toArray(), schema, unknown, false);
  } else if (node instanceof Y.XmlText) {
    for (const part of node.toDelta() as readonly DeltaPart[]) {
      if (typeof part.insert !== "string") unknown.add("embedded object");
      for (const name of Object.keys(part.attributes ?? {})) {
        // A mark that may overlap itself is stored as `name--hash`.
        const mark = name.replace(/--[A-Za-z0-9+/=]{8}$/, "");
        if (!(mark in schema.marks)) unknown.add(mark);
      }
    }
  } else {
    unknown.add("unknown content");
  }
}

interface DeltaPart {
  readonly insert: unknown;
  readonly attributes?: Readonly<Record<string, unknown>>;
}
