import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { HttpFile, MemoryFile, Qcow2Image, createQcow2, RawImage, SECTOR, type HttpOptions } from "../index.js";

const content = new Uint8Array(1_000_000 - 300).map((_, i) => (i >>> 8) * 13 + i);
let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = null;
});

type Answer = (request: IncomingMessage, response: ServerResponse) => boolean | void;
/** A web server with ranges; `first` may answer in its place (true: it has). */
async function serve(
  first: Answer = () => {},
  bytes: () => Uint8Array = () => content,
  headers: Record<string, string> = { etag: '"1"' },
): Promise<string> {
  server = createServer((request, response) => {
    if (first(request, response) === true) return;
    const m = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const all = bytes();
    if (m === null) {
      response.writeHead(200, { ...headers, "content-length": all.length }).end(all);
      return;
    }
    const [start, end] = [Number(m[1]), Math.min(Number(m[2]), all.length - 1)];
    response
      .writeHead(206, { ...headers, "content-range": `bytes ${start}-${end}/${all.length}` })
      .end(all.subarray(start, end + 1));
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.img`;
}
const waits: number[] = [];
const options = (more: Partial<HttpOptions> = {}): HttpOptions => ({
  fetch: (url, init) => fetch(url, init),
  delay: (ms) => {
    waits.push(ms);
    return Promise.resolve();
  },
  ...more,
});
const part = (at: number, n: number): Uint8Array => content.subarray(at, at + n);
async function read(f: HttpFile, at: number, n: number): Promise<Uint8Array> {
  const out = new Uint8Array(n).fill(0xee);
  await f.read(at, out);
  return out;
}

describe("a disk on a web server", () => {
  it("is read in ranges, each block once", async () => {
    const f = await HttpFile.open(await serve(), options({ blockSize: 4096 }));
    expect(f.size()).toBe(content.length);
    expect(Buffer.compare(await read(f, 5000, 3000), part(5000, 3000))).toBe(0);
    const { requests } = f.metrics;
    // What is here is answered at once.
    expect(f.read(6000, new Uint8Array(100))).toBeUndefined();
    await Promise.all([read(f, 500_000, 10_000), read(f, 500_000, 10_000), read(f, 503_000, 100)]);
    expect(f.metrics.requests).toBe(requests + 1);
    // Beyond the end there are zeros.
    const end = await read(f, content.length - 100, 200);
    expect(Buffer.compare(end.subarray(0, 100), part(content.length - 100, 100))).toBe(0);
    expect(end.subarray(100).every((b) => b === 0)).toBe(true);
    expect(new RawImage(f).sectors).toBe(Math.floor(content.length / SECTOR));
    expect(new RawImage(f).readOnly).toBe(true);
  });

  it("keeps no more than it may, and reads ahead of who goes straight on", async () => {
    const f = await HttpFile.open(await serve(), options({ blockSize: 4096, cacheSize: 16 * 4096 }));
    const whole = await read(f, 0, content.length);
    expect(Buffer.compare(whole, content)).toBe(0);
    const before = f.metrics.requests;
    for (let at = 0; at < content.length; at += 1000) {
      const n = Math.min(1000, content.length - at);
      expect(Buffer.compare(await read(f, at, n), part(at, n))).toBe(0);
    }
    // 245 blocks, several with each request.
    expect(f.metrics.requests - before).toBeLessThan(140);
  });

  it("stands under a qcow2 image", async () => {
    const memory = new MemoryFile("q");
    await createQcow2(memory, { size: 2 ** 20 });
    const writer = await Qcow2Image.open(memory);
    await writer.write(100, new Uint8Array(SECTOR).fill(9));
    await writer.close();
    const bytes = memory.bytes();
    const f = await HttpFile.open(
      await serve(
        () => {},
        () => bytes,
      ),
      options({ blockSize: 4096 }),
    );
    const image = await Qcow2Image.open(f);
    expect(image.readOnly).toBe(true);
    const out = new Uint8Array(2 * SECTOR);
    await image.read(100, out);
    expect([out[0], out[SECTOR]]).toEqual([9, 0]);
  });

  it("is loaded whole from a server without ranges, if it is small enough", async () => {
    const plain: Answer = (request) => void delete request.headers.range;
    const url = await serve(plain);
    const f = await HttpFile.open(url, options());
    expect(Buffer.compare(await read(f, 777, 5000), part(777, 5000))).toBe(0);
    expect(f.metrics.requests).toBe(1);
    await expect(HttpFile.open(url, options({ wholeLimit: 1000 }))).rejects.toThrow(
      /disk\.img: the server sends no ranges, and the file has 1 MiB/,
    );
  });

  it("tries again what may pass, and gives up with the reason", async () => {
    let failures = 2;
    const url = await serve((_, response) => {
      if (failures-- <= 0) return false;
      if (failures % 2 === 0) response.writeHead(503).end();
      else response.destroy();
      return true;
    });
    waits.length = 0;
    const f = await HttpFile.open(url, options({ blockSize: 4096 }));
    expect(waits).toEqual([200, 400]);
    failures = 100;
    await expect(read(f, 100_000, 10)).rejects.toThrow(
      /disk\.img: (HTTP status 503|.*(socket|closed|terminated|other side).*)/i,
    );
    // That request only.
    failures = 0;
    expect(Buffer.compare(await read(f, 100_000, 10), part(100_000, 10))).toBe(0);
    failures = 1000;
    const again = await HttpFile.open(url, options({ tries: 2 })).catch((e: unknown) => String(e));
    expect(again).toMatch(/ImageError: http:.*disk\.img: /);
  });

  it.each([
    [404, "HTTP status 404"],
    [403, "HTTP status 403"],
    [416, "the file is empty, or shorter than it was"],
  ])("status %i is not tried again", async (status, why) => {
    const url = await serve((_, response) => {
      response.writeHead(status).end();
      return true;
    });
    waits.length = 0;
    await expect(HttpFile.open(url, options())).rejects.toThrow(why);
    expect(waits).toEqual([]);
  });

  it("an answer that is cut off or of another range is no content", async () => {
    let lie: "no" | "cut" | "other" = "no";
    const url = await serve((_, response) => {
      if (lie === "no") return false;
      if (lie === "other") {
        response
          .writeHead(206, { etag: '"1"', "content-range": `bytes 0-9/${content.length}` })
          .end(content.subarray(0, 10));
        return true;
      }
      response.writeHead(206, {
        etag: '"1"',
        "content-length": 4096,
        "content-range": `bytes 8192-12287/${content.length}`,
      });
      response.write(content.subarray(0, 10), () => response.destroy());
      return true;
    });
    const f = await HttpFile.open(url, options({ blockSize: 4096 }));
    for (lie of ["cut", "other"] as const) await expect(read(f, 8192, 10)).rejects.toThrow("disk.img");
    lie = "no";
    expect(Buffer.compare(await read(f, 8192, 10), part(8192, 10))).toBe(0);
  });

  it.each(["entity tag", "date", "length"])("is an error for good when the file changes: %s", async (what) => {
    let changed = false;
    const headers = what === "date" ? { "last-modified": "Sat, 01 Jan 2022 00:00:00 GMT" } : { etag: '"a"' };
    const url = await serve(
      (_, response) => {
        if (!changed || what === "length") return false;
        const now = what === "date" ? { "last-modified": "Sun, 02 Jan 2022 00:00:00 GMT" } : { etag: '"b"' };
        response
          .writeHead(206, { ...now, "content-range": `bytes 40960-45055/${content.length}` })
          .end(content.subarray(40960, 45056));
        return true;
      },
      () => (changed && what === "length" ? content.subarray(0, 900_000) : content),
      headers,
    );
    const f = await HttpFile.open(url, options({ blockSize: 4096 }));
    changed = true;
    await expect(read(f, 40960, 10)).rejects.toThrow("the file on the server has changed");
    changed = false;
    expect(() => f.read(0, new Uint8Array(10))).toThrow("the file on the server has changed");
  });
});
