/** Dark or light: the person's choice, else the system's. The page begins with it (index.html). */
type Scheme = "dark" | "light";
const media = globalThis.matchMedia?.("(prefers-color-scheme: light)");
const root = document.documentElement;

function chosen(): boolean {
  try {
    return localStorage.getItem("theme") !== null;
  } catch {
    return false;
  }
}

class Theme {
  private scheme = $state<Scheme>(root.dataset["theme"] === "light" ? "light" : "dark");

  constructor() {
    media?.addEventListener("change", (e) => {
      if (!chosen()) this.set(e.matches ? "light" : "dark");
    });
  }
  get now(): Scheme {
    return this.scheme;
  }
  toggle(): void {
    this.set(this.scheme === "dark" ? "light" : "dark");
    try {
      localStorage.setItem("theme", this.scheme);
    } catch {
      // Private mode: it holds for this visit.
    }
  }
  private set(scheme: Scheme): void {
    this.scheme = scheme;
    root.dataset["theme"] = scheme;
  }
}

export const theme = new Theme();

/** A colour of app.css, for canvases. */
export function cssColor(name: string): string {
  return getComputedStyle(root).getPropertyValue(name).trim();
}
