/**
 * What this browser remembers: my name and colour, and the documents I had open. Everything read back is parsed, for
 * another version or another hand may have written it; a browser that refuses storage just forgets.
 */
import { newPerson, parsePerson, type Person } from "./person";
import { isRoomName } from "./room";

const PERSON_KEY = "tutti:person";
const RECENT_KEY = "tutti:recent";
const RECENT_MAX = 12;

export interface Recent {
  readonly room: string;
  /** Milliseconds since 1970. */
  readonly openedAt: number;
}

/** Who I am here; someone new gets a name and keeps it. */
export function loadPerson(): Person {
  const known = parsePerson(read(PERSON_KEY));
  if (known !== null) return known;
  const person = newPerson(crypto.getRandomValues(new Uint32Array(3)));
  savePerson(person);
  return person;
}

export function savePerson(person: Person): void {
  write(PERSON_KEY, person);
}

/** Newest first. */
export function loadRecent(): Recent[] {
  const value = read(RECENT_KEY);
  return Array.isArray(value) ? value.filter(isRecent).slice(0, RECENT_MAX) : [];
}

export function rememberOpened(room: string, openedAt: number): void {
  const others = loadRecent().filter((recent) => recent.room !== room);
  write(RECENT_KEY, [{ room, openedAt }, ...others].slice(0, RECENT_MAX));
}

export function forgetRecent(room: string): void {
  write(
    RECENT_KEY,
    loadRecent().filter((recent) => recent.room !== room),
  );
}

function isRecent(value: unknown): value is Recent {
  if (typeof value !== "object" || value === null) return false;
  const { room, openedAt } = value as Partial<Record<keyof Recent, unknown>>;
  return typeof room === "string" && isRoomName(room) && Number.isFinite(openedAt);
}

function read(key: string): unknown {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") as unknown;
  } catch {
    return null; // storage is switched off, or holds something else: the same as never having been here
  }
}

function write(key: string, value: unknown): void {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Full or switched off. Nothing a document needs is kept here, so there is nothing to tell anybody.
  }
}
