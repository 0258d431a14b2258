/**
 * The few bytes of the wire this app reads itself: which frames carry document content, and the server's count of
 * saved ones. Everything else is read by y-websocket. Pure; knows nothing of sockets.
 *
 * docs/PROTOCOL.md: a document frame is a sync message (0) of subtype step 2 (1) or update (2). A saved frame is
 * message 116, subtype 0, then n: "your first n document frames on this connection are durable".
 */

/** Outer type of the saved frame; above every type y-protocols uses, so other clients never meet it. */
export const MESSAGE_SAVED = 116;

const MESSAGE_SYNC = 0;
const SYNC_STEP2 = 1;
const SYNC_UPDATE = 2;
const SAVED_COUNT = 0;

/** What a document frame is: the answer to the server's step 1 (holds all it lacks) or one update. */
export type DocumentFrame = "answer" | "update";

/** Tells which kind of document frame `bytes` is, or null if the server does not count it. */
export function documentFrame(bytes: Uint8Array): DocumentFrame | null {
  if (bytes[0] !== MESSAGE_SYNC) return null;
  if (bytes[1] === SYNC_STEP2) return "answer";
  if (bytes[1] === SYNC_UPDATE) return "update";
  return null;
}

/**
 * Reads what follows the outer type of a saved frame. Null for anything not exactly of that form: a frame that can't
 * be read claims nothing.
 */
export function savedCount(body: Uint8Array): number | null {
  if (body[0] !== SAVED_COUNT) return null;
  let count = 0;
  let factor = 1;
  // 53 bits fit into 8 groups of 7; what is longer is not a count.
  for (let at = 1; at < body.length && at <= 8; at++) {
    const byte = body[at] ?? 0;
    count += (byte & 0x7f) * factor;
    factor *= 128;
    if (byte < 0x80) return at === body.length - 1 && Number.isSafeInteger(count) ? count : null;
  }
  return null;
}
