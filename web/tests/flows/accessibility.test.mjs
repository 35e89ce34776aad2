// axe on every page, in both themes: no serious violation.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { external, openBrowser, openPage, studio } from "../browser.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const ANY = ["/", "/datasets", "/datasets/import", "/experiments", "/experiments/new", "/chat", "/settings", "/settings/defaults", "/settings/secrets", "/settings/models", "/settings/storage", "/nothing"];
const MOCK = ["/datasets/home-commands", "/datasets/home-commands?tab=rows", "/datasets/home-commands?tab=statistics", "/datasets/home-commands?tab=summary", "/datasets/ticket-topics", "/datasets/ticket-topics?tab=statistics", "/datasets/review-scores?tab=statistics", "/datasets/home-commands/tokens", "/experiments/lora-r16", "/experiments/lora-r16/predictions", "/experiments/lora-r16/summary", "/experiments/lora-r16/logs", "/experiments/lora-r16/config", "/experiments/lora-r16/artifacts", "/experiments/hot-rate", "/experiments/compare?ids=lora-r16,lora-r4"];

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());

for (const colorScheme of ["light", "dark"]) {
  for (const args of external ? [[]] : [[], ["--empty"], ["--password", "secret"]]) {
    test(`${colorScheme} ${args.join(" ")}`, async () => {
      const server = await studio({ args });
      // The policy forbids foreign scripts, axe's included; it is checked by the flows.
      const { context, page } = await openPage(browser, server.url, { colorScheme, bypassCSP: true });
      const bad = [];
      for (const path of args.includes("--password") ? ["/"] : external || args.includes("--empty") ? ANY : [...ANY, ...MOCK]) {
        await page.goto(server.url + path);
        await page.locator("h1").first().waitFor();
        await page.waitForTimeout(450);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
        for (const v of violations) if (["serious", "critical"].includes(v.impact)) bad.push(`${path}: ${v.id}: ${v.nodes.map((n) => `${n.target.join(" ")} ${n.any[0]?.message ?? ""}`).slice(0, 2).join(" | ")}`);
      }
      await context.close();
      await server.stop();
      assert.deepEqual(bad, []);
    });
  }
}
