import * as encoding from "lib0/encoding";
import { describe, expect, it } from "vitest";

import { documentFrame, savedCount } from "../src/protocol";

const counted = (count: number): Uint8Array => {
  const encoder = encoding.createEncoder();
  encoding.writeVarUint(encoder, 0);
  encoding.writeVarUint(encoder, count);
  return encoding.toUint8Array(encoder);
};

describe("documentFrame", () => {
  it("counts step 2 and updates, and nothing else", () => {
    expect(documentFrame(Uint8Array.of(0, 1, 2, 0, 0))).toBe("answer");
    expect(documentFrame(Uint8Array.of(0, 2, 2, 0, 0))).toBe("update");
    for (const other of [[], [0], [0, 0, 0], [0, 3], [1, 1], [1, 2], [3], [116, 1]]) {
      expect(documentFrame(Uint8Array.from(other))).toBeNull();
    }
  });
});

describe("savedCount", () => {
  it.each([0, 1, 127, 128, 16_383, 16_384, 2 ** 31, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER])(
    "reads %d as lib0 writes it",
    (count) => {
      expect(savedCount(counted(count))).toBe(count);
    },
  );

  it("claims nothing for a frame it can't read whole", () => {
    const broken = [
      [],
      [0],
      [0, 0x80],
      [1, 5],
      [0, 5, 0],
      [0, ...Array<number>(9).fill(0xff)],
      [0, ...Array<number>(9).fill(0x80), 1],
    ];
    for (const body of broken) expect(savedCount(Uint8Array.from(body))).toBeNull();
  });
});
