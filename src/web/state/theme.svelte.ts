/** Dark or light: the system's choice, or the person's. */
const media = globalThis.matchMedia?.("(prefers-color-scheme: light)");

function stored(): "dark" | "light" | null {
  const t = document.documentElement.dataset["theme"];
  return t === "dark" || t === "light" ? t : null;
}

class Theme {
  private chosen = $state<"dark" | "light" | null>(stored());
  private system = $state<"dark" | "light">(media?.matches ? "light" : "dark");

  constructor() {
    media?.addEventListener("change", (e) => (this.system = e.matches ? "light" : "dark"));
  }
  get now(): "dark" | "light" {
    return this.chosen ?? this.system;
  }
  toggle(): void {
    this.chosen = this.now === "dark" ? "light" : "dark";
    document.documentElement.dataset["theme"] = this.chosen;
    try {
      localStorage.setItem("theme", this.chosen);
    } catch {
      // Private mode: it holds for this visit.
    }
  }
}

export const theme = new Theme();

/** A colour of app.css, for canvases. */
export function cssColor(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
