// What a run predicts on its validation rows, on the mock: searched, sorted, read whole by mouse and keyboard, and kept fresh.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { external, openBrowser, openPage, studio, tooWide, until, violations } from "../browser.mjs";

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());
const onMock = { skip: external ? "needs the mock" : false };

async function withPage(path, args, options, flow) {
  const server = await studio({ args });
  const { context, page, problems } = await openPage(browser, server.url, options);
  try {
    await page.goto(server.url + path);
    await flow(page);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
    await server.stop();
  }
}
const numbers = async (page, label) => (await page.locator(`[data-predictions] td[data-label="${label}"]`).allInnerTexts()).map(Number);
const isFalling = (list) => list.length > 1 && list.every((x, i) => i === 0 || x <= list[i - 1]);

test("the worst come first; rows are searched, sorted, paged and read whole", onMock, async () => {
  await withPage("/experiments/lora-r4/predictions", [], {}, async (page) => {
    const rows = page.locator("[data-predictions] tr.one");
    await rows.first().waitFor();
    assert.equal(await rows.count(), 25);
    assert.ok(isFalling(await numbers(page, "perplexity")), "not sorted by perplexity");
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("26 to 50 of 60 predictions").waitFor();
    await page.getByRole("button", { name: "BLEU" }).click();
    await page.getByText("sorted by BLEU, largest first").waitFor();
    assert.ok(isFalling(await numbers(page, "BLEU")));
    await page.getByRole("button", { name: "BLEU" }).click();
    await page.getByText("sorted by BLEU, smallest first").waitFor();
    await page.getByLabel("Only those that differ").check();
    await page.getByText(/^\d+ of 60 rows$/).waitFor();
    assert.ok((await page.locator("[data-predictions] tr.one mark").count()) > 0, "differences are not marked");

    await page.getByLabel("Search the predictions").fill("blinds");
    await until(async () => (await rows.allInnerTexts()).every((text) => text.includes("blinds")), "other rows are left");
    await page.getByLabel("Search the predictions").fill("nobody says this");
    await page.getByRole("heading", { name: "No row fits" }).waitFor();
    await page.getByRole("button", { name: "Show all rows" }).click();
    await until(async () => (await rows.count()) === 25, "the rows do not come back");

    // By keyboard: open, read, close.
    const opener = rows.first().getByRole("button");
    await opener.focus();
    await page.keyboard.press("Enter");
    await page.locator(".detail .text").nth(2).waitFor();
    assert.equal(await opener.getAttribute("aria-expanded"), "true");
    await page.keyboard.press("Enter");
    await page.locator(".detail").waitFor({ state: "detached" });
    // By mouse, anywhere in the row.
    await rows.nth(1).locator("td").nth(2).click();
    await page.locator(".detail .text").first().waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "CSV" }).click();
    assert.match((await download).suggestedFilename(), /predictions\.csv$/);
  });
});

test("a running experiment says when predictions appear, and shows them anew after each evaluation", onMock, async () => {
  await withPage("/experiments", ["--speed", "4"], {}, async (page) => {
    const run = await page.request.post(`${new URL(page.url()).origin}/api/v1/experiments`, { headers: { "X-Tunesmith": "1" }, data: { name: "fresh", dataset_id: "home-commands", values: {} } });
    const [{ id }] = await run.json();
    await page.request.put(`${new URL(page.url()).origin}/api/v1/queue`, { headers: { "X-Tunesmith": "1" }, data: { ids: [id] } });
    await page.request.post(`${new URL(page.url()).origin}/api/v1/experiments/lora-r16-2e-3/stop`, { headers: { "X-Tunesmith": "1" } });
    await page.goto(`${new URL(page.url()).origin}/experiments/${id}/predictions`);
    await page.getByRole("heading", { name: "No predictions yet" }).waitFor();
    const step = () => page.locator("[data-evaluated]").getAttribute("data-evaluated").then(Number).catch(() => 0);
    await page.locator("[data-evaluated]").waitFor({ timeout: 20_000 });
    const first = await step();
    assert.ok(first > 0);
    await until(async () => (await step()) > first, "the second evaluation does not appear");
  });
});

for (const colorScheme of ["light", "dark"]) {
  test(`an open prediction is accessible and fits a phone, ${colorScheme}`, onMock, async () => {
    await withPage("/experiments/lora-r4/predictions", [], { colorScheme, bypassCSP: true, viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, async (page) => {
      await page.locator("[data-predictions] .opener button").first().click();
      await page.locator(".detail .text").first().waitFor();
      const wide = await tooWide(page);
      assert.ok(wide <= 0, `${wide} px too wide`);
      assert.deepEqual(await violations(page), []);
    });
  });
}
