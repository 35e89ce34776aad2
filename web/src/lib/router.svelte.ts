// History routing for a dozen pages: a table of patterns, links that are plain <a href>, and a guard for unsaved work.

export type Route = { name: string; params: Record<string, string>; path: string; query: URLSearchParams };

/** Matches `/datasets/:id/tokens` against a path; null where it does not fit. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const want = pattern.split("/").filter(Boolean);
  const have = path.split("/").filter(Boolean);
  if (want.length !== have.length) return null;
  const params: Record<string, string> = {};
  for (const [i, part] of want.entries()) {
    const given = have[i] ?? "";
    if (part.startsWith(":")) {
      try {
        params[part.slice(1)] = decodeURIComponent(given);
      } catch {
        return null;
      }
    } else if (part !== given) return null;
  }
  return params;
}

export const ROUTES: [pattern: string, name: string][] = [
  ["/", "home"],
  ["/datasets", "datasets"],
  ["/datasets/import", "import"],
  ["/datasets/:id", "dataset"],
  ["/datasets/:id/tokens", "tokens"],
  ["/experiments", "experiments"],
  ["/experiments/new", "new"],
  ["/experiments/compare", "compare"],
  ["/experiments/:id", "experiment"],
  ["/experiments/:id/:tab", "experiment"],
  ["/chat", "chat"],
  ["/settings", "settings"],
  ["/settings/:tab", "settings"],
];

export function resolve(path: string, search: string): Route {
  for (const [pattern, name] of ROUTES) {
    const params = match(pattern, path);
    if (params) return { name, params, path, query: new URLSearchParams(search) };
  }
  return { name: "missing", params: {}, path, query: new URLSearchParams(search) };
}

class Router {
  route = $state<Route>(resolve(location.pathname, location.search));

  constructor() {
    addEventListener("popstate", () => this.read());
    addEventListener("click", (event) => this.click(event));
  }

  private read(): void {
    this.route = resolve(location.pathname, location.search);
  }

  /** Shows another page; `replace` where going back to this one would make no sense. */
  go(url: string, options: { replace?: boolean; keepScroll?: boolean } = {}): void {
    history[options.replace ? "replaceState" : "pushState"](null, "", url);
    this.read();
    if (!options.keepScroll) scrollTo(0, 0);
  }

  private click(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
      return;
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (/^\/(api|v1)\//.test(link.pathname) || (link.hash && link.pathname === location.pathname)) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

export const router = new Router();
