/**
 * People: who I am, and who the others say they are. What arrives through awareness was written by anybody, so it is
 * parsed here, once, into `Peer`; nothing else in the app reads a raw state. Pure.
 */

export interface Person {
  readonly name: string;
  /** `#rrggbb` */
  readonly color: string;
}

/** A place in the document, in the JSON form of a Yjs relative position. */
export interface Place {
  readonly type: ItemId | null;
  readonly tname: string | null;
  readonly item: ItemId | null;
  readonly assoc: number;
}
interface ItemId {
  readonly client: number;
  readonly clock: number;
}

export interface Peer extends Person {
  readonly clientId: number;
  readonly cursor: { readonly anchor: Place; readonly head: Place } | null;
}

/** Each is told from the others at a glance and carries white text at 4.5:1 or better (tested). */
export const COLORS: readonly { readonly name: string; readonly value: string }[] = [
  { name: "Raspberry", value: "#c2255c" },
  { name: "Plum", value: "#8e3bb0" },
  { name: "Iris", value: "#5f4bd8" },
  { name: "Ocean", value: "#1c66c4" },
  { name: "Lagoon", value: "#0b7580" },
  { name: "Fern", value: "#2a7a3b" },
  { name: "Ochre", value: "#996000" },
  { name: "Rust", value: "#c04a17" },
];

export const NAME_LENGTH_MAX = 40;
/** The Yjs root the editor writes to; a cursor anywhere else is not ours to draw. */
export const ROOT = "default";

const ANIMALS =
  "Badger Beaver Crane Falcon Finch Fox Heron Ibis Koala Lynx Marten Otter Owl Panda Puffin Raven Robin Seal Stork Swan Tapir Wren".split(
    " ",
  );
const MANNERS =
  "Bright Calm Curious Deft Gentle Jolly Keen Kind Lucid Merry Nimble Patient Quick Quiet Sunny Witty".split(" ");

/** A name and colour for someone new. `random` has at least three numbers. */
export function newPerson(random: Uint32Array): Person {
  const pick = <T>(from: readonly T[], at: number): T => from[(random[at] ?? 0) % from.length] as T;
  return { name: `${pick(MANNERS, 0)} ${pick(ANIMALS, 1)}`, color: pick(COLORS, 2).value };
}

/** A person from stored or received JSON, or null. */
export function parsePerson(value: unknown): Person | null {
  if (!isRecord(value)) return null;
  const name = cleanName(value["name"]);
  const color = value["color"];
  if (name === "" || typeof color !== "string" || !/^#[0-9a-f]{6}$/i.test(color)) return null;
  return { name, color: color.toLowerCase() };
}

/** One line, no control or direction-changing characters, at most 40 characters as people count them. */
export function cleanName(value: unknown): string {
  if (typeof value !== "string") return "";
  // Cut before the costly passes: a name can be as long as an awareness message.
  const line = value
    .slice(0, 400)
    .replaceAll(/\s+/g, " ")
    .replaceAll(/[\p{Cc}\p{Cs}\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu, "")
    .trim();
  return Array.from(line).slice(0, NAME_LENGTH_MAX).join("").trim();
}

/** Everybody in the room but `own`, ordered by client id so that the list stands still. Nameless states are no people. */
export function parsePeers(states: ReadonlyMap<number, unknown>, own: number): Peer[] {
  const peers: Peer[] = [];
  for (const [clientId, state] of states) {
    if (clientId === own || !isRecord(state)) continue;
    const user = isRecord(state["user"]) ? state["user"] : null;
    if (user === null) continue;
    const person = parsePerson(user) ?? {
      name: cleanName(user["name"]) || "Someone",
      color: COLORS[clientId % COLORS.length]?.value ?? "#5f4bd8",
    };
    peers.push({ ...person, clientId, cursor: parseCursor(state["cursor"]) });
  }
  return peers.sort((a, b) => a.clientId - b.clientId);
}

/** One or two letters for an avatar. */
export function initials(name: string): string {
  const words = name.split(" ").filter((word) => /[\p{L}\p{N}]/u.test(word));
  const first = Array.from(words[0] ?? name)[0] ?? "?";
  const last = words.length > 1 ? (Array.from(words.at(-1) ?? "")[0] ?? "") : "";
  return (first + last).toUpperCase();
}

/** Black or white, whichever reads better on `color` (WCAG relative luminance). */
export function inkOn(color: string): "#000000" | "#ffffff" {
  return contrast(color, "#ffffff") >= contrast(color, "#000000") ? "#ffffff" : "#000000";
}

/** WCAG contrast ratio of two `#rrggbb` colours, 1 to 21. */
export function contrast(a: string, b: string): number {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(color: string): number {
  const channel = (at: number): number => {
    const value = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}

function parseCursor(value: unknown): Peer["cursor"] {
  if (!isRecord(value)) return null;
  const anchor = parsePlace(value["anchor"]);
  const head = parsePlace(value["head"]);
  return anchor === null || head === null ? null : { anchor, head };
}

/** Refuses what would make Yjs throw (a place nowhere) or grow a new root in the document (another name). */
function parsePlace(value: unknown): Place | null {
  if (!isRecord(value)) return null;
  const type = parseItemId(value["type"]);
  const item = parseItemId(value["item"]);
  const tname = value["tname"] === ROOT ? ROOT : null;
  if (type === null && item === null && tname === null) return null;
  return { type, item, tname, assoc: value["assoc"] === -1 ? -1 : 0 };
}

function parseItemId(value: unknown): ItemId | null {
  if (!isRecord(value)) return null;
  const { client, clock } = value;
  return isIndex(client) && isIndex(clock) ? { client, clock } : null;
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
