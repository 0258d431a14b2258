/**
 * The document's copy in this browser: one IndexedDB database per room, written by y-indexeddb with every update, own
 * and others'. Edits made offline survive a closed tab in it.
 */
import { IndexeddbPersistence } from "y-indexeddb";
import type * as Y from "yjs";

import type { OfflineCopy } from "./session";

/** Reading takes milliseconds; a database another tab blocks must not keep the document from opening. */
const READ_WITHIN_MS = 2_000;

/**
 * Reads the room's copy into `doc` and keeps it up from then on. Calls `report` once when it is read, or with
 * "unavailable" when it can't be or takes too long; in the latter case again if it comes after all. Gives the
 * transaction origin of what was read, or null without a database.
 */
export async function openCopy(
  room: string,
  doc: Y.Doc,
  report: (copy: Exclude<OfflineCopy, "reading">) => void,
): Promise<object | null> {
  // y-indexeddb leaves a failed open as an unhandled rejection, so ask first (private windows, storage switched off).
  if (!(await indexedDbWorks())) {
    report("unavailable");
    return null;
  }
  const persistence = new IndexeddbPersistence(`tutti:${room}`, doc);
  const late = setTimeout(() => report("unavailable"), READ_WITHIN_MS);
  void persistence.whenSynced.then(() => {
    clearTimeout(late);
    report("kept");
  });
  return persistence;
}

function indexedDbWorks(): Promise<boolean> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(false), READ_WITHIN_MS);
    try {
      const request = indexedDB.open("tutti-probe");
      request.onsuccess = () => {
        request.result.close();
        resolve(true);
      };
      request.onerror = () => resolve(false);
    } catch {
      resolve(false); // some browsers throw instead of calling onerror
    }
  });
}
