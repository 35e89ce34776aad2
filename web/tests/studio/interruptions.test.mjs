// What may come between a user and a run: a server that is killed, a second tab, a run that is stopped. On the real program.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { lossPoints, openBrowser, until } from "../browser.mjs";
import { needsBinary, withStudio } from "../real-studio.mjs";

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());

const withPage = (flow) => withStudio(browser, {}, flow);

test("a run goes on while the server is dead, and its chart has no gap", needsBinary, async () => {
  await withPage(async ({ page, place, studio, create }) => {
    const id = await create("survivor", { "training.epochs": 400 });
    await page.goto(`${studio.url}/experiments/${id}`);
    await until(async () => (await lossPoints(page).catch(() => 0)) > 20, "no points came");
    const trainer = place.trainer(id);
    await studio.stop();
    await page.getByText("Reconnecting to the studio").waitFor();
    const seen = await lossPoints(page);
    await until(() => place.steps(id).length > seen + 50, "the run stands still without the server");
    await place.start({ port: studio.port });
    await page.getByText("Reconnecting to the studio").waitFor({ state: "detached" });
    await until(async () => (await lossPoints(page)) > seen, "the chart stands still");
    assert.equal(place.trainer(id), trainer, "another process trains");
    await page.getByText("Finished", { exact: true }).first().waitFor({ timeout: 240_000 });
    await until(async () => Number(await page.locator("[data-step]").getAttribute("data-step")) === place.steps(id).length, "the page lags behind the run");
    const arriving = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export Loss" }).click();
    await page.getByRole("menuitem", { name: "Save as CSV" }).click();
    let text = "";
    for await (const piece of await (await arriving).createReadStream()) text += piece;
    const shown = text.trim().split("\n").slice(1).map((line) => Number(line.split(",")[0]));
    assert.deepEqual(shown, place.steps(id).map((_, i) => i + 1), "steps are missing");
  });
});

test("a run that finished while the server was dead is shown finished", needsBinary, async () => {
  await withPage(async ({ page, place, studio, create }) => {
    const id = await create("alone", { "training.epochs": 60 });
    await page.goto(`${studio.url}/experiments`);
    await page.locator(`[data-experiment="${id}"]`).getByText("Running").waitFor();
    const trainer = place.trainer(id);
    await studio.stop();
    await until(() => !isAlive(trainer), "the run does not end", 240);
    await place.start({ port: studio.port });
    await page.locator(`[data-experiment="${id}"]`).getByText("Finished").waitFor();
  });
});

test("two tabs show the same queue", needsBinary, async () => {
  await withPage(async ({ page, studio, context, call, create }) => {
    const first = await create("first", { "training.epochs": 2000 });
    const second = await create("second");
    const other = await context.newPage();
    await page.goto(`${studio.url}/experiments`);
    await other.goto(`${studio.url}/experiments`);
    await other.locator(`[data-experiment="${first}"]`).getByText("Running").waitFor();
    await other.locator(`[data-experiment="${second}"]`).getByText("Queued").waitFor();
    await page.getByRole("button", { name: "Actions for second" }).click();
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.getByLabel("Name", { exact: true }).fill("renamed-here");
    await page.locator("[data-confirm]").click();
    await other.getByRole("link", { name: "renamed-here" }).first().waitFor();
    await page.getByRole("button", { name: "Take renamed-here out of the queue" }).click();
    await page.locator("[data-confirm]").click();
    await other.locator(`[data-experiment="${second}"]`).getByText("Stopped").waitFor();

    // A run that is stopped keeps its place, and goes on from there.
    await other.goto(`${studio.url}/experiments/${first}`);
    await until(async () => (await lossPoints(other).catch(() => 0)) > 5, "no points came");
    await other.getByRole("button", { name: "Stop", exact: true }).click();
    await other.locator("[data-confirm]").click();
    await page.locator(`[data-experiment="${first}"]`).getByText("Stopped").waitFor();
    const before = (await call("GET", `/experiments/${first}`)).step;
    await other.getByRole("button", { name: "Resume", exact: true }).click();
    await page.locator(`[data-experiment="${first}"]`).getByText("Running").waitFor();
    await until(async () => (await call("GET", `/experiments/${first}`)).step > before, "the run does not go on");
    await call("POST", `/experiments/${first}/kill`, {});
    await page.locator(`[data-experiment="${first}"]`).getByText("Ended early").waitFor();
  });
});

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
