/**
 * Names of documents: in addresses, in titles, and new ones. Pure; randomness comes in. A room's name is any text; in
 * an address it is one percent-encoded part, so that slashes, spaces and question marks come through.
 */

export type Route =
  | { readonly page: "start" }
  | { readonly page: "document"; readonly room: string }
  | { readonly page: "unknown" };

const DOCUMENT_PREFIX = "/r/";

export function routeOf(path: string): Route {
  if (path === "/" || path === "") return { page: "start" };
  if (!path.startsWith(DOCUMENT_PREFIX)) return { page: "unknown" };
  const room = decoded(path.slice(DOCUMENT_PREFIX.length));
  return room !== null && isRoomName(room) ? { page: "document", room } : { page: "unknown" };
}

/**
 * Can `name` be reached through an address at all? `.` and `..`, encoded or not, are swallowed by every URL parser,
 * and a lone surrogate has no UTF-8. The server has its own limits and says so with close code 4404.
 */
export function isRoomName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !name.includes("\0") && !/\p{Surrogate}/u.test(name);
}

export function pathOf(room: string): string {
  return DOCUMENT_PREFIX + encodeURIComponent(room);
}

/** `meeting-notes` reads as "Meeting notes"; names with other characters are shown as they are. */
export function titleOf(room: string): string {
  const spaced = /^[a-z0-9]+([-_][a-z0-9]+)*$/.test(room) ? room.replaceAll(/[-_]/g, " ") : room;
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** What someone typed or pasted into "open": a whole address of this site, or a name. Null if it is neither. */
export function roomFromInput(input: string, origin: string): string | null {
  const text = input.trim();
  if (text.startsWith(`${origin}/`)) {
    const route = routeOf(new URL(text).pathname);
    return route.page === "document" ? route.room : null;
  }
  return isRoomName(text) ? text : null;
}

const MOODS =
  "amber brisk calm clear coral crisp dapper eager early fair fleet gentle golden grand hazel humble keen kind light lively lucid mellow merry mild nimble noble quiet rosy silver steady sunny swift".split(
    " ",
  );
const SOUNDS =
  "aria ballad bell cadence canon cello chime choir chord clarinet concert duet echo encore flute fugue harp hymn lute lyre march melody oboe octave prelude quartet rondo sonata tempo trio viola waltz".split(
    " ",
  );
/** No letters or digits that are mistaken for each other when read aloud or copied by hand. */
const TAIL = "abcdefghjkmnpqrstuvwxyz23456789";

/**
 * A name nobody uses yet and everybody can say: two words and four characters, about 10⁹ of them. `random` has at
 * least six numbers.
 */
export function newRoomName(random: Uint32Array): string {
  const pick = <T>(from: ArrayLike<T>, at: number): T => from[(random[at] ?? 0) % from.length] as T;
  const tail = [2, 3, 4, 5].map((at) => pick(TAIL, at)).join("");
  return `${pick(MOODS, 0)}-${pick(SOUNDS, 1)}-${tail}`;
}

function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null; // half a percent sign: not an address this app ever made
  }
}
