/** The rules between the app's files: what is pure stays pure, and each outside thing is touched in one place. */
import { readdirSync, readFileSync } from "node:fs";

import { expect, it } from "vitest";

const SOURCE = new URL("../src/", import.meta.url);
const FILES = readdirSync(SOURCE).filter((name) => name.endsWith(".ts"));
const read = (name: string): string => readFileSync(new URL(name, SOURCE), "utf8");
const imports = (name: string): string[] =>
  [...read(name).matchAll(/^(?:import|export)\b[^;]*?from "([^"]+)"/gms)].map((match) => match[1] ?? "");
const code = (name: string): string => read(name).replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");

/** File to the app's own modules it may import. */
const PURE: Readonly<Record<string, readonly string[]>> = {
  "protocol.ts": [],
  "session.ts": [],
  "status.ts": ["./session"],
  "room.ts": [],
  "person.ts": [],
  "content-guard.ts": ["yjs", "@tiptap/pm/model"],
};

it.each(Object.entries(PURE))("%s is pure", (name, allowed) => {
  expect(imports(name).filter((path) => !allowed.includes(path))).toEqual([]);
  const outside =
    /\b(document|window|navigator|localStorage|performance|crypto)\.\w+|\b(setTimeout|fetch|Date\.now|Math\.random)\(/g;
  expect(code(name).match(outside)).toBeNull();
});

it("only socket.ts touches WebSocket", () => {
  expect(FILES.filter((name) => /\bWebSocket\b|y-websocket/.test(code(name)))).toEqual(["socket.ts"]);
});

it("only editor.ts and carets.ts import the editor's code; others know its types at most", () => {
  const users = FILES.filter((name) => /^import (?!type).*from "@tiptap\//m.test(read(name)));
  expect(users).toEqual(["carets.ts", "editor.ts"]);
});

it("only offline-copy.ts touches IndexedDB, only storage.ts localStorage, only rooms-api.ts fetches", () => {
  expect(FILES.filter((name) => /\bindexedDB\b|y-indexeddb/.test(code(name)))).toEqual(["offline-copy.ts"]);
  expect(FILES.filter((name) => /\blocalStorage\b/.test(code(name)))).toEqual(["storage.ts"]);
  expect(FILES.filter((name) => /\bfetch\(/.test(code(name)))).toEqual(["rooms-api.ts"]);
});

it("parses no text as HTML and names no foreign address", () => {
  for (const name of FILES) {
    expect(code(name), name).not.toMatch(/innerHTML|insertAdjacentHTML|outerHTML|document\.write|eval\(/);
    const addresses = [
      ...read(name)
        .replaceAll(/\/\*[\s\S]*?\*\//g, "")
        .matchAll(/https?:\/\/[a-z][^"'`$\s]*/g),
    ].map((match) => match[0]);
    expect(
      addresses.filter((address) => address !== "http://www.w3.org/2000/svg"),
      name,
    ).toEqual([]);
  }
});
