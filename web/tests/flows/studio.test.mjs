// What a user does, in a real browser: on the mock, or with STUDIO_URL on a running studio (those that fit it).
//   node --test tests/flows/    ·    STUDIO_URL=http://127.0.0.1:10101 node --test tests/flows/
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { external, lossPoints, openBrowser, openPage, studio, tooWide, until } from "../browser.mjs";

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());

const onMock = { skip: external ? "needs the mock" : false };

async function withStudio(args, options, flow) {
  const server = await studio({ args });
  const { context, page, problems } = await openPage(browser, server.url, options);
  try {
    await flow(page, server, context);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
    await server.stop();
  }
}

test("first visit, sample, train, watch, chat, download: in fewer than ten clicks", async () => {
  await withStudio(["--empty", "--speed", "6"], {}, async (page, { url }) => {
    let clicks = 0;
    const click = (locator) => (clicks++, locator.click());
    await page.goto(url);
    if (!external) await page.getByRole("heading", { name: "Welcome to Tunesmith" }).waitFor();
    await click(page.getByRole("button", { name: "Try the sample" }));
    await page.waitForURL(/experiments\/new/, { timeout: 300_000 });
    await page.locator("[data-forecast] .badge").waitFor();
    await click(page.locator("[data-start]:enabled"));
    await page.waitForURL(/experiments\/(?!new)/);
    await page.locator("[data-charts]").waitFor();
    await until(async () => (await lossPoints(page)) > 3, "no points came");
    const first = await lossPoints(page);
    await until(async () => (await lossPoints(page)) > first + 3, "the chart does not move");
    await page.getByText("Finished", { exact: true }).first().waitFor({ timeout: external ? 1_800_000 : 90_000 });
    const id = new URL(page.url()).pathname.split("/")[2];
    await click(page.getByRole("link", { name: "Chat", exact: true }).last());
    await click(page.locator(".suggestion").first());
    await page.locator("[data-answer] .tools").waitFor({ timeout: 120_000 });
    assert.match(await page.locator("[data-answer]").innerText(), /action/);
    await page.goto(`${url}/experiments/${id}/artifacts`);
    const download = page.waitForEvent("download");
    await click(page.locator('[data-artifact="adapter"]'));
    assert.match((await download).suggestedFilename(), /\.(zip|safetensors|tar)/);
    assert.ok(clicks < 10, `${clicks} clicks`);
  });
});

test("a CSV with columns of other names is put right in the wizard", async () => {
  await withStudio([], {}, async (page, { url }) => {
    await page.goto(`${url}/datasets/import`);
    const csv = "question,reply,topic\nHow do I pay?,By card.,billing\nWhere is my order?,On its way.,orders\nWho are you?,,self\n";
    await page.setInputFiles("input[type=file]", { name: `support ${Date.now()}.csv`, mimeType: "text/csv", buffer: Buffer.from(csv) });
    await page.getByRole("heading", { name: "Preview" }).waitFor();
    if (!external) {
      await page.locator('[data-problem="error"]').waitFor();
      assert.ok(await page.getByRole("button", { name: "Import", exact: true }).isDisabled());
    }
    await page.locator('[data-field="answer_column"]').selectOption("reply");
    if ((await page.locator('[data-prompt="question"]').getAttribute("aria-pressed")) !== "true") await page.locator('[data-prompt="question"]').click();
    await page.getByText("By card.", { exact: true }).first().waitFor();
    if (!external) await page.getByText("Row 4", { exact: true }).waitFor();
    await page.locator(".preview:not(.checking)").getByText("By card.").waitFor();
    await page.getByRole("button", { name: "Import", exact: true }).click();
    await page.waitForURL(/datasets\/(?!import)/);
    await page.getByText("How do I pay?").first().waitFor();
  });
});

test("the form shows what matters, in step with its YAML", onMock, async () => {
  await withStudio([], {}, async (page, { url }) => {
    await page.goto(`${url}/experiments/new?dataset=home-commands`);
    const rank = page.locator('[data-field="training.lora_r"]');
    await rank.getByRole("textbox").fill("32");
    await rank.getByRole("button", { name: /Reset to 4/ }).waitFor();
    await page.getByRole("button", { name: "YAML", exact: true }).click();
    const yaml = page.getByLabel("Experiment file as YAML");
    await until(async () => /lora_r: 32/.test(await yaml.inputValue()), "the YAML does not follow the form");
    await yaml.fill("training:\n    lora_r: 8\n    epochs: 3\n");
    await until(async () => (await rank.getByRole("textbox").inputValue()) === "8", "the form does not follow the YAML");
    await page.locator('[data-field="training.lora"]').getByRole("switch").click();
    await rank.waitFor({ state: "detached" });
    await page.getByText("All weights are trained", { exact: false }).first().waitFor();
    assert.ok(await page.locator("[data-start]").isDisabled());
    await page.locator('[data-field="training.lora"]').getByRole("switch").click();
    await page.locator('[data-field="training.learning_rate"]').getByRole("button", { name: "Try several values" }).click();
    await page.locator('[data-field="training.learning_rate"] .chip[aria-pressed="false"]').first().click();
    await page.getByRole("button", { name: "Start 2 runs" }).waitFor();
  });
});

test("a reload in the middle of a run loses no point", onMock, async () => {
  await withStudio(["--speed", "3"], {}, async (page, { url }) => {
    await page.goto(`${url}/experiments/lora-r16-2e-3`);
    await until(async () => (await lossPoints(page).catch(() => 0)) > 60, "no points came");
    const seen = await lossPoints(page);
    await page.reload();
    await until(async () => (await lossPoints(page).catch(() => 0)) >= seen, "points were lost");
    const step = Number(await page.locator("[data-step]").getAttribute("data-step"));
    await until(async () => (await lossPoints(page)) >= step, "the chart lags behind the run");
  });
});

test("a restart of the server is survived calmly, without a gap in the chart", onMock, async () => {
  const file = join(tmpdir(), `studio-mock-${process.pid}.json`);
  const args = ["--state", file, "--speed", "3"];
  let server = await studio({ args });
  const { context, page, problems } = await openPage(browser, server.url);
  try {
    await page.goto(`${server.url}/experiments/lora-r16-2e-3`);
    await until(async () => (await lossPoints(page).catch(() => 0)) > 40, "no points came");
    // Any change makes the mock write its state.
    await page.request.put(`${server.url}/api/v1/queue`, { headers: { "X-Tunesmith": "1" }, data: { ids: [] } });
    const seen = await lossPoints(page);
    await server.stop();
    await page.getByText("Reconnecting to the studio").waitFor();
    server = await studio({ args, port: server.port });
    await page.getByText("Reconnecting to the studio").waitFor({ state: "detached" });
    await until(async () => (await lossPoints(page)) > seen + 10, "the chart stands still");
    const csv = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export Loss" }).click();
    await page.getByRole("menuitem", { name: "Save as CSV" }).click();
    const stream = await (await csv).createReadStream();
    let text = "";
    for await (const piece of stream) text += piece;
    const steps = text.trim().split("\n").slice(1).map((line) => Number(line.split(",")[0]));
    assert.deepEqual(steps, steps.map((_, i) => i + 1), "steps are missing");
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
    await server.stop();
    rmSync(file, { force: true });
  }
});

test("two tabs show the same", onMock, async () => {
  await withStudio([], {}, async (page, { url }, context) => {
    const other = await context.newPage();
    await page.goto(`${url}/experiments`);
    await other.goto(`${url}/experiments`);
    await page.getByRole("button", { name: "Actions for lora-r4" }).click();
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.getByLabel("Name", { exact: true }).fill("renamed-here");
    await page.locator("[data-confirm]").click();
    await other.getByRole("link", { name: "renamed-here" }).waitFor();
    await page.getByRole("button", { name: "Take support-first-try out of the queue" }).click();
    await page.locator("[data-confirm]").click();
    await other.locator('[data-experiment="support-small"]').getByText("Stopped").waitFor();
  });
});

test("an answer can be stopped, asked again and edited", onMock, async () => {
  await withStudio([], {}, async (page, { url }) => {
    await page.goto(`${url}/chat?model=${encodeURIComponent("model:HuggingFaceTB/SmolLM2-135M-Instruct")}`);
    const box = page.getByLabel("Message", { exact: true });
    await box.fill("How do I shut the blinds?");
    await box.press("Enter");
    await page.locator("[data-answer] .md").waitFor();
    await page.getByRole("button", { name: "Stop answering" }).click();
    await page.getByText("stopped", { exact: false }).waitFor();
    await page.getByRole("button", { name: "Answer again" }).click();
    await page.locator("[data-answer] .tools").getByText("tokens/s").waitFor();
    assert.equal(await page.locator("[data-answer] pre").count(), 1);
    await page.getByRole("button", { name: "Edit this message" }).click();
    await page.getByLabel("Edit the message").fill("And the lamp?");
    await page.getByRole("button", { name: "Send", exact: true }).first().click();
    await page.getByText("And the lamp?").waitFor();
    assert.equal(await page.locator(".user").count(), 1);
  });
});

test("a password is asked for, and a wrong one is told", onMock, async () => {
  await withStudio(["--password", "open sesame"], {}, async (page, { url }) => {
    await page.goto(`${url}/datasets`);
    await page.getByLabel("Password").fill("wrong");
    await page.getByLabel("Password").press("Enter");
    await page.getByText("This password is not right.").waitFor();
    await page.getByLabel("Password").fill("open sesame");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Data sets" }).waitFor();
  });
});

test("on a phone nothing is wider than the screen, and the menu works", async () => {
  await withStudio([], { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, async (page, { url }) => {
    const paths = ["/", "/datasets", "/datasets/import", "/experiments", "/experiments/new", "/chat", "/settings", "/settings/secrets"];
    if (!external) paths.push("/datasets/home-commands", "/datasets/home-commands/tokens", "/experiments/lora-r16", "/experiments/lora-r16/config", "/experiments/compare?ids=lora-r16,lora-r4");
    for (const path of paths) {
      await page.goto(url + path);
      await page.locator("h1").first().waitFor();
      await page.waitForTimeout(250);
      const wide = await tooWide(page);
      assert.ok(wide <= 0, `${path} is ${wide} px too wide`);
    }
    await page.getByRole("button", { name: "Open the menu" }).click();
    await page.getByRole("link", { name: "Data sets" }).click();
    await page.getByRole("heading", { name: "Data sets" }).waitFor();
  });
});
