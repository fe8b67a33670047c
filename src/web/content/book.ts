/** The pages of docs/book and the guests' sources, as text. */
const pages = import.meta.glob<string>("../../../docs/book/*.md", { query: "?raw", import: "default" });
const sources = import.meta.glob<string>(["../../../guests/src/*.c", "../../../guests/hello/*"], {
  query: "?raw",
  import: "default",
});

export interface Chapter {
  readonly id: string;
  readonly file: string;
  readonly title: string;
}

export const chapters: readonly Chapter[] = [
  { id: "2.8", file: "2.8-simplest-kernel.md", title: "The simplest kernel" },
  { id: "3.4", file: "3.4-gettimeofday.md", title: "gettimeofday" },
  { id: "4.4", file: "4.4-mapping-a-grant.md", title: "Mapping a granted page" },
  { id: "4.5", file: "4.5-sharing.md", title: "Sharing between domains" },
  { id: "5.8", file: "5.8-shared-info.md", title: "The shared info page" },
  { id: "6.7", file: "6.7-console.md", title: "The console device" },
  { id: "7.10", file: "7.10-full-console.md", title: "The full console driver" },
  { id: "12.4", file: "12.4-scheduler.md", title: "A new scheduler" },
  { id: "rules", file: "rules.md", title: "The rules, guest by guest" },
];

async function text(from: Record<string, () => Promise<string>>, end: string): Promise<string> {
  const found = Object.entries(from).find(([path]) => path.endsWith(`/${end}`));
  if (found === undefined) throw new Error(`there is no ${end} in this lab`);
  return found[1]();
}

export const pageText = (c: Chapter): Promise<string> => text(pages, c.file);
/** `src/grant-map.c`. */
export const sourceText = (path: string): Promise<string> => text(sources, path);
export const chapterOfFile = (file: string): Chapter | undefined => chapters.find((c) => file.endsWith(c.file));
