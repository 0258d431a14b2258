/** The list of documents a node knows: `GET /api/rooms`, parsed once into types. */

export interface Room {
  readonly name: string;
  /** Milliseconds since 1970, or null if the server does not say. */
  readonly updatedAt: number | null;
  readonly bytes: number;
  readonly sessions: number;
}

export interface RoomPage {
  readonly rooms: readonly Room[];
  /** Pass as `after` for the next page; null on the last. */
  readonly next: string | null;
}

const PAGE_SIZE = 20;
const ANSWER_WITHIN_MS = 8_000;

/** Throws on any answer that is not such a list. */
export async function fetchRooms(after: string | null): Promise<RoomPage> {
  const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
  if (after !== null) query.set("after", after);
  const response = await fetch(`/api/rooms?${query}`, {
    headers: { accept: "application/json" },
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return parseRoomPage(await response.json());
}

export function parseRoomPage(value: unknown): RoomPage {
  if (!isRecord(value) || !Array.isArray(value["rooms"])) throw new Error("the server's answer is not a list of rooms");
  const next = value["next"];
  return {
    rooms: value["rooms"].flatMap((entry: unknown) => {
      if (!isRecord(entry) || typeof entry["name"] !== "string") return [];
      return [
        {
          name: entry["name"],
          updatedAt: parseTime(entry["updated_at"]),
          bytes: parseCount(entry["bytes"]),
          sessions: parseCount(entry["sessions"]),
        },
      ];
    }),
    next: typeof next === "string" && next !== "" ? next : null,
  };
}

/** Seconds since 1970 as a number, or an ISO 8601 text. */
function parseTime(value: unknown): number | null {
  const time = typeof value === "number" ? value * 1000 : typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isFinite(time) ? time : null;
}

function parseCount(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value : 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
