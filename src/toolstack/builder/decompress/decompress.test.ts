import { randomBytes } from "node:crypto";
import { deflateRawSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { compressionOf, gunzipMember, unpack } from "./index.js";

/** What the fixtures below hold; the calls in it exercise the x86 branch filter. */
const text = (() => {
  const lines: number[] = [];
  for (let i = 0; i < 40; i++) {
    lines.push(...Buffer.from(`line ${i} `), 0xe8, (i * 7) & 255, (i * 7) >> 8, 0, 0, ...Buffer.from(" rest of it\n"));
  }
  return Uint8Array.from(lines);
})();
// Made with Python's lzma module (liblzma): the x86 filter, LZMA2 and CRC32; and the `.lzma` format.
const XZ =
  "/Td6WFoAAAFpIt42AgEEACEBHACHbtrl4APdALZdADYaSh8IoCYEBHcYcWuBJjm+/jbdK1wnr4Y38Ydp8i9vEw2IjmHsNH1JZUR233PJEpAMStFGvwBdLCwiPHkq1gfs5H2EV1SYJX6UUxhRqImRdILhd41RCCaA7fFnZQyZwsBwO/oXNH6nmM9oo6o5rjTWc/ngz2yCe0kJwJ0OGN3vK+VEaHnAnBE8emvoHOvGbKlbB2cigwhYYr9sm5ppNlLDPRnauC+hvhfx+Cx3HdzjPAPyTgMAAAAA4AEdfQABzgHeBwAAhloTFj4wDYsCAAAAAAFZWg==";
const LZMA =
  "XQAAgAD//////////wA2GkofCKAmBARuKmBztLmaKxGRqd1Qm5QMDKqNxdHPoMxzIRXhMQaR9ZCUe7bvQ5vY0MvQ614mS6NjW0Y0I+M7u7TGoFa2RmhYjj3/fLjq9wKms52iK3j0YNIRlHY9K+3XZMnU6BkWyNqXwaVB9J1hILvGy2z9LkTaPyuuSChh4RzWmqG3RVDKsiHxVelLfmQLGsrFBDHMnKqaPeseDWepF5dEWRRDJ1weGYd6DLD/EV7f3//SoTsA";
const bytes = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, "base64"));

describe("gzip", () => {
  it.each([0, 1, 5, 9])("unpacks what zlib packs at level %i", (level) => {
    const data = new Uint8Array(
      Buffer.concat([randomBytes(70_000), Buffer.alloc(100_000, "abcdefg"), Buffer.from(text)]),
    );
    const packed = new Uint8Array(gzipSync(data, { level }));
    expect(compressionOf(packed)).toBe("gzip");
    expect(Buffer.compare(unpack("gzip", packed, data.length), data)).toBe(0);
  });
  it("says where the member ends", () => {
    const packed = gzipSync(text);
    const { bytes: out, used } = gunzipMember(new Uint8Array(Buffer.concat([packed, Buffer.alloc(9)])));
    expect(used).toBe(packed.length);
    expect(out).toEqual(text);
  });
  it("unpacks fixed-code blocks", () => {
    const raw = deflateRawSync(text, { strategy: 4 });
    const whole = gzipSync(text);
    const member = Buffer.concat([whole.subarray(0, 10), raw, whole.subarray(-8)]);
    expect(gunzipMember(new Uint8Array(member)).bytes).toEqual(text);
  });
  it("refuses damaged and truncated data", () => {
    const packed = new Uint8Array(gzipSync(text));
    expect(() => gunzipMember(packed.subarray(0, packed.length - 20))).toThrow(/truncated|damaged/);
    packed[packed.length - 6] ^= 1;
    expect(() => gunzipMember(packed)).toThrow("damaged");
  });
});

describe("xz", () => {
  it("unpacks LZMA2 behind the x86 filter", () => {
    expect(compressionOf(bytes(XZ))).toBe("xz");
    expect(unpack("xz", bytes(XZ), text.length)).toEqual(text);
  });
  it("grows its output when the hint is too small", () => {
    expect(() => unpack("xz", bytes(XZ), 10)).toThrow(`unpacks to ${text.length} bytes, but says that it holds 10`);
  });
  it("refuses every single-byte damage or truncation without another kind of error", () => {
    for (let i = 0; i < bytes(XZ).length - 24; i++) {
      const b = bytes(XZ);
      b[i] ^= 0x55;
      try {
        expect(unpack("xz", b, text.length)).toEqual(text);
      } catch (e) {
        expect((e as Error).name).toMatch(/BuildError/);
      }
      expect(() => unpack("xz", bytes(XZ).subarray(0, i), text.length)).toThrow(/truncated|damaged/);
    }
  });
});

describe("lzma", () => {
  it("unpacks a .lzma file", () => {
    expect(compressionOf(bytes(LZMA))).toBe("lzma");
    expect(unpack("lzma", bytes(LZMA), text.length)).toEqual(text);
  });
});

describe("lz4", () => {
  // "abc", then a match of distance 3 and length 9, then the literals "xyz"; one block.
  const block = [0x35, 0x61, 0x62, 0x63, 3, 0, 0x30, 0x78, 0x79, 0x7a];
  const frame = Uint8Array.from([0x02, 0x21, 0x4c, 0x18, block.length, 0, 0, 0, ...block]);
  it("unpacks the kernel's legacy frame", () => {
    expect(compressionOf(frame)).toBe("lz4");
    expect(Buffer.from(unpack("lz4", frame, 15)).toString()).toBe("abcabcabcabcxyz");
  });
  it("refuses a match that reaches before the block, and a short frame", () => {
    const bad = frame.slice();
    bad[12] = 4;
    expect(() => unpack("lz4", bad, 15)).toThrow("truncated or damaged");
    expect(() => unpack("lz4", frame.subarray(0, 14), 15)).toThrow("truncated or damaged");
    expect(() => unpack("lz4", frame, 16)).toThrow("truncated or damaged");
  });
});

it("names a compression that is known and not supported", () => {
  const b = Uint8Array.from(Buffer.from("BZh91AY&SY"));
  expect(compressionOf(b)).toBe("bzip2");
  expect(() => unpack("bzip2", b, 10)).toThrow("compressed with bzip2, which is not supported");
});
