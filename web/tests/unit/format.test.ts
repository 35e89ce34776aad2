import { describe, expect, it } from "vitest";
import { ago, bytes, duration, fixed, number, parameters, plural } from "../../src/lib/format";
import { highlight, highlightYaml } from "../../src/lib/highlight";
import { render } from "../../src/lib/markdown";
import { match, resolve } from "../../src/lib/router.svelte";

describe("formatters", () => {
  it("write sizes", () => {
    expect([0, 999, 1536, 1024 ** 2, 5.5 * 1024 ** 3, null].map(bytes)).toEqual(["0 B", "999 B", "1.5 KB", "1.0 MB", "5.5 GB", "–"]);
    expect(bytes(1024 ** 2 - 1)).toBe("1.0 MB");
  });
  it("write durations", () => {
    expect([0.42, 9.99, 59.7, 61, 3600, 3725, 90000, null].map(duration)).toEqual(["0.4 s", "10 s", "1 min", "1 min 1 s", "1 h", "1 h 2 min", "1 d 1 h", "–"]);
  });
  it("write numbers", () => {
    expect([0, 0.1 + 0.2, 0.0001, 1234.5, 2.5e7, NaN].map((n) => number(n))).toEqual(["0", "0.3", "1e-4", "1,235", "2.5e7", "–"]);
    expect(fixed(1.04)).toBe("1.0400");
    expect([134760384, 1.1e9, null].map(parameters)).toEqual(["135M", "1.1B", "–"]);
    expect([plural(1, "row"), plural(2000, "row")]).toEqual(["1 row", "2,000 rows"]);
  });
  it("write how long ago", () => {
    expect([10, 120, 7200, 3 * 86400].map((d) => ago(1e9 - d, 1e9))).toEqual(["just now", "2 min ago", "2 h ago", "3 days ago"]);
  });
});

describe("Markdown of a model", () => {
  it("renders lists, tables and code", () => {
    expect(render("1. a\n2. b")).toContain("<ol>");
    expect(render("|a|b|\n|-|-|\n|1|2|")).toContain("<table>");
    expect(render("```python\ndef f(): return 1\n```")).toContain('<span class="tok-keyword">def</span>');
  });
  it("runs nothing and loads nothing", () => {
    const hostile = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![x](https://example.org/x.png)", "[x](javascript:alert(1))", '<a href="https://example.org" style="position:fixed">x</a>', "```html\n<iframe src='x'></iframe>\n```", "<svg/onload=alert(1)>"];
    for (const text of hostile) {
      const box = document.createElement("div");
      box.innerHTML = render(text);
      expect(box.querySelector("script,img,iframe,svg,style,[onerror],[onload],[style]"), text).toBeNull();
      for (const link of box.querySelectorAll("a")) expect(link.getAttribute("href") ?? "").not.toMatch(/^javascript:/);
    }
  });
  it("opens links elsewhere, without telling from where", () => {
    expect(render("[x](https://example.org)")).toMatch(/rel="noopener noreferrer nofollow"/);
  });
  it("escapes code before colouring it", () => {
    expect(highlight('<b a="1">')).not.toContain("<b");
    expect(highlightYaml("name: <img>")).not.toContain("<img");
  });
});

describe("router", () => {
  it("takes the first pattern that fits", () => {
    expect(resolve("/experiments/new", "").name).toBe("new");
    expect(resolve("/experiments/a%20b/logs", "")).toMatchObject({ name: "experiment", params: { id: "a b", tab: "logs" } });
    expect(resolve("/nothing", "").name).toBe("missing");
  });
  it("does not fall over what is no address", () => expect(match("/experiments/:id", "/experiments/%E0%A4%A")).toBeNull());
});
