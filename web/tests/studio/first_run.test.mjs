// What somebody does who has just installed the program, on the real one: a table of their own, a run, a chat, a file.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { lossPoints, openBrowser, openPage, until } from "../browser.mjs";
import { home, needsBinary } from "../real-studio.mjs";

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());

// The answer's column has a name that nobody guesses, and one answer is missing.
const CSV = `question,what_we_say,topic\n${Array.from({ length: 40 }, (_, i) => `Where is order ${i}?,It is in box ${i % 5}.,orders`).join("\n")}\nWho are you?,,self\n`;

test("a table of one's own becomes a model to chat with and to take away", needsBinary, async () => {
  const place = home();
  const studio = await place.start();
  const { context, page, problems } = await openPage(browser, studio.url);
  page.setDefaultTimeout(60_000);
  let clicks = 0;
  const click = (locator) => (clicks++, locator.click());
  try {
    await page.goto(studio.url);
    await page.getByRole("heading", { name: "Welcome to Tunesmith" }).waitFor();
    await click(page.getByRole("link", { name: "Import a data set" }));
    await page.setInputFiles("input[type=file]", { name: "orders.csv", mimeType: "text/csv", buffer: Buffer.from(CSV) });
    await page.getByRole("heading", { name: "Preview" }).waitFor();
    await page.locator('[data-field="answer_column"]').selectOption("what_we_say");
    const prompt = page.locator('[data-prompt="question"]');
    if ((await prompt.getAttribute("aria-pressed")) !== "true") await click(prompt);
    await page.locator(".preview:not(.checking)").getByText("It is in box 0.").waitFor();
    // The row without an answer is told by its number.
    await page.locator("[data-problem]").getByText("Row 41").first().waitFor();
    await click(page.getByRole("button", { name: "Import", exact: true }));
    await page.waitForURL(/datasets\/(?!import)/);
    await page.getByText("Where is order 0?").first().waitFor();

    await click(page.getByRole("link", { name: "Train on it" }));
    await page.locator("[data-forecast] .badge").waitFor();
    await page.locator('[data-field="training.epochs"]').getByRole("textbox").fill("60");
    await page.locator("[data-forecast][aria-busy=false]").waitFor();
    await click(page.locator("[data-start]:enabled"));
    await page.waitForURL(/experiments\/(?!new)/);
    const id = new URL(page.url()).pathname.split("/")[2];
    await until(async () => (await lossPoints(page)) > 3, "no points came");
    const first = await lossPoints(page);
    await until(async () => (await lossPoints(page)) > first, "the chart does not move");
    await page.reload();
    await until(async () => (await lossPoints(page)) >= first, "a reload lost points");
    await page.getByText("Finished", { exact: true }).first().waitFor({ timeout: 180_000 });
    const steps = place.steps(id);
    assert.deepEqual(steps, steps.map((_, i) => i + 1));
    await until(async () => (await lossPoints(page)) >= Math.min(steps.length, 900), "the chart is not whole");

    await click(page.getByRole("link", { name: "Chat", exact: true }).last());
    await page.getByLabel("Message", { exact: true }).fill("Where is order 3?");
    await page.getByLabel("Message", { exact: true }).press("Enter");
    await page.locator("[data-answer] .tools").getByText("tokens/s").waitFor({ timeout: 120_000 });
    assert.ok(clicks < 10, `${clicks} clicks`);

    await page.goto(`${studio.url}/experiments/${id}/artifacts`);
    const arriving = page.waitForEvent("download");
    await page.locator('[data-artifact="adapter"]').click();
    const download = await arriving;
    assert.match(download.suggestedFilename(), /\.zip$/);
    const zip = readFileSync(await download.path());
    for (const name of ["adapter_config.json", "adapter_model.safetensors"]) assert.ok(zip.includes(name), `${name} is missing`);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
    await studio.stop();
    await place.remove();
  }
});
