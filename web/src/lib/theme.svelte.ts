// Light, dark, or as the system says. Kept in the browser; public/theme.js applies it before the first paint.

export type Theme = "system" | "light" | "dark";
const KEY = "tunesmith.theme";

class ThemeState {
  choice = $state<Theme>("system");
  private system = matchMedia("(prefers-color-scheme: dark)");
  private systemDark = $state(this.system.matches);
  readonly isDark = $derived(this.choice === "dark" || (this.choice === "system" && this.systemDark));

  constructor() {
    try {
      const kept = localStorage.getItem(KEY);
      if (kept === "light" || kept === "dark") this.choice = kept;
    } catch {
      // Storage may be switched off.
    }
    this.system.addEventListener("change", (event) => (this.systemDark = event.matches));
  }

  set(choice: Theme): void {
    this.choice = choice;
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // It holds until the page is closed, then.
    }
  }
}

export const theme = new ThemeState();
