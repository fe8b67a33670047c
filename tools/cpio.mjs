// Writes cpio archives in the "newc" format, the one of the Linux kernel's initramfs.

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

/** An archive in the making. Parent directories are added as needed; the same input gives the same bytes. */
export class Cpio {
  #chunks = [];
  #length = 0;
  #inode = 1;
  #dirs = new Set();

  dir(path, mode = 0o755) {
    if (path === "" || this.#dirs.has(path)) return;
    this.#parent(path);
    this.#dirs.add(path);
    this.#entry(path, S_IFDIR | mode, Buffer.alloc(0), 2);
  }

  file(path, data, mode = 0o644) {
    this.#parent(path);
    this.#entry(path, S_IFREG | mode, typeof data === "string" ? Buffer.from(data) : data, 1);
  }

  symlink(path, target) {
    this.#parent(path);
    this.#entry(path, S_IFLNK | 0o777, Buffer.from(target), 1);
  }

  charDevice(path, major, minor, mode = 0o600) {
    this.#parent(path);
    this.#entry(path, S_IFCHR | mode, Buffer.alloc(0), 1, major, minor);
  }

  /** Ends the archive. */
  finish() {
    this.#entry("TRAILER!!!", 0, Buffer.alloc(0), 1);
    return Buffer.concat(this.#chunks);
  }

  #parent(path) {
    const slash = path.lastIndexOf("/");
    if (slash > 0) this.dir(path.slice(0, slash));
  }

  #entry(path, mode, data, nlink, major = 0, minor = 0) {
    const name = Buffer.from(`${path}\0`);
    const fields = [this.#inode++, mode, 0, 0, nlink, 0, data.length, 0, 0, major, minor, name.length, 0];
    this.#push(Buffer.from(`070701${fields.map((f) => f.toString(16).padStart(8, "0")).join("")}`));
    this.#push(name);
    this.#align();
    this.#push(data);
    this.#align();
  }

  #push(data) {
    this.#chunks.push(data);
    this.#length += data.length;
  }

  #align() {
    this.#push(Buffer.alloc(-this.#length & 3));
  }
}
