// Every page of the real program with a real run in it: no error, no serious finding of axe in either theme, and none wider
// than a phone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, tooWide, until, violations } from "../browser.mjs";
import { needsBinary, withStudio } from "../real-studio.mjs";

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());

const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

for (const [look, options] of [["light", {}], ["dark", { colorScheme: "dark" }], ["phone", PHONE]]) {
  test(`every page, ${look}`, needsBinary, async () => {
    await withStudio(browser, { ...options, bypassCSP: true }, async ({ page, studio, call, dataset, create }) => {
      const run = await create("whole");
      await until(async () => (await call("GET", `/experiments/${run}`)).status === "finished", "the run does not end");
      const ofData = ["", "?tab=rows", "?tab=statistics", "?tab=summary", "/tokens"].map((tab) => `/datasets/${dataset}${tab}`);
      const ofRun = ["", "/predictions", "/summary", "/logs", "/config", "/artifacts"].map((tab) => `/experiments/${run}${tab}`);
      const settings = ["", "/defaults", "/secrets", "/models", "/storage"].map((tab) => `/settings${tab}`);
      const paths = ["/", "/datasets", "/datasets/import", "/experiments", `/experiments/new?dataset=${dataset}`, `/experiments/compare?ids=${run}`, `/chat?model=run:${run}`, "/nothing", ...ofData, ...ofRun, ...settings];
      const bad = [];
      for (const path of paths) {
        await page.goto(studio.url + path);
        await page.locator("h1").first().waitFor();
        await page.waitForTimeout(450);
        if ((await tooWide(page)) > 0) bad.push(`${path} is too wide`);
        bad.push(...(await violations(page)));
      }
      assert.deepEqual(bad, []);
    });
  });
}
