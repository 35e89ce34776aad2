// axe on every page, in both themes: no serious violation.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { external, openBrowser, openPage, studio, violations } from "../browser.mjs";

const ANY = ["/", "/datasets", "/datasets/import", "/experiments", "/experiments/new", "/chat", "/settings", "/settings/defaults", "/settings/secrets", "/settings/models", "/settings/storage", "/nothing"];
const MOCK = ["/datasets/home-commands", "/datasets/home-commands?tab=rows", "/datasets/home-commands?tab=statistics", "/datasets/home-commands?tab=summary", "/datasets/ticket-topics", "/datasets/ticket-topics?tab=statistics", "/datasets/review-scores?tab=statistics", "/datasets/home-commands/tokens", "/experiments/lora-r16", "/experiments/lora-r16/predictions", "/experiments/lora-r16/summary", "/experiments/lora-r16/logs", "/experiments/lora-r16/config", "/experiments/lora-r16/artifacts", "/experiments/hot-rate", "/experiments/compare?ids=lora-r16,lora-r4"];

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());

for (const colorScheme of ["light", "dark"]) {
  for (const args of external ? [[]] : [[], ["--empty"], ["--password", "secret"]]) {
    test(`${colorScheme} ${args.join(" ")}`, async () => {
      const server = await studio({ args });
      const { context, page } = await openPage(browser, server.url, { colorScheme, bypassCSP: true });
      const bad = [];
      for (const path of args.includes("--password") ? ["/"] : external || args.includes("--empty") ? ANY : [...ANY, ...MOCK]) {
        await page.goto(server.url + path);
        await page.locator("h1").first().waitFor();
        await page.waitForTimeout(450);
        bad.push(...(await violations(page)));
      }
      await context.close();
      await server.stop();
      assert.deepEqual(bad, []);
    });
  }
}
