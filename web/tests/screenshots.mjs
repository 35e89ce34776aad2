// Pictures of every page, light and dark, at a desk and on a phone: node tests/screenshots.mjs [folder] [name part]
import { mkdirSync } from "node:fs";
import { openBrowser, openPage, studio, tooWide } from "./browser.mjs";

const folder = process.argv[2] ?? "screenshots";
const only = process.argv[3] ?? "";
mkdirSync(folder, { recursive: true });

const IMPORT = "question,reply,topic\nHow do I reset my password?,Open Settings and choose Reset password.,account\nWhere is my invoice?,You find all invoices under Billing.,billing\nCan I change my plan?,,billing\n";
const PAGES = [
  ["home", "/"], ["datasets", "/datasets"], ["dataset-conversations", "/datasets/home-commands"], ["dataset-rows", "/datasets/home-commands?tab=rows"],
  ["dataset-statistics", "/datasets/home-commands?tab=statistics"], ["dataset-summary", "/datasets/home-commands?tab=summary"], ["tokens", "/datasets/home-commands/tokens"],
  ["import", "/datasets/import"],
  ["import-cloud", "/datasets/import", async (page) => {
    await page.getByRole("button", { name: "Cloud storage" }).click();
    await page.getByLabel("Bucket").fill("company-data");
    await page.getByRole("button", { name: "Browse" }).click();
    await page.getByText("chats/").click();
    await page.getByText("part-1.parquet").waitFor();
  }],
  ["import-kaggle", "/datasets/import", async (page) => {
    await page.getByRole("button", { name: "Kaggle" }).click();
    await page.getByLabel("Data set on Kaggle").fill("owner/name");
    await page.getByRole("button", { name: "Show files" }).click();
    await page.getByText("train.csv").waitFor();
  }],
  ["import-wizard", "/datasets/import", async (page) => {
    await page.setInputFiles("input[type=file]", { name: "support.csv", mimeType: "text/csv", buffer: Buffer.from(IMPORT) });
    await page.getByRole("heading", { name: "Preview" }).waitFor();
  }],
  ["import-classes", "/datasets/import", async (page) => {
    await page.setInputFiles("input[type=file]", { name: "topics.csv", mimeType: "text/csv", buffer: Buffer.from("text,label\nI cannot log in,0\nWhere is my invoice?,1\nThe parcel is late,2\nYou charged me twice,1\n") });
    await page.getByRole("heading", { name: "Preview" }).waitFor();
  }],
  ["import-preferences", "/datasets/import", async (page) => {
    await page.setInputFiles("input[type=file]", { name: "pairs.csv", mimeType: "text/csv", buffer: Buffer.from("prompt,chosen,rejected\nHow do I pay?,You can pay by card or by invoice.,No idea.\n") });
    await page.getByRole("heading", { name: "Preview" }).waitFor();
  }],
  ["dataset-classes", "/datasets/ticket-topics"], ["dataset-classes-statistics", "/datasets/ticket-topics?tab=statistics"], ["dataset-numbers-statistics", "/datasets/review-scores?tab=statistics"],
  ["dataset-classes-columns", "/datasets/ticket-topics?tab=summary", async (page) => page.getByRole("button", { name: "Change", exact: true }).click()],
  ["new", "/experiments/new?dataset=home-commands&sample=1"],
  ["new-all", "/experiments/new?dataset=home-commands", async (page) => {
    await page.getByRole("button", { name: "All settings" }).click();
    await page.getByRole("button", { name: "YAML", exact: true }).click();
    await page.getByLabel("Search settings").fill("lora");
  }],
  ["experiments", "/experiments"],
  ["experiments-menu", "/experiments", async (page) => {
    for (const name of ["lora-r16", "lora-r4"]) await page.getByLabel(`Choose ${name}`, { exact: true }).check();
    await page.getByRole("button", { name: "Actions for lora-r4" }).click();
  }],
  ["experiment-charts", "/experiments/lora-r16-2e-3"], ["experiment-summary", "/experiments/lora-r16/summary"],
  ["experiment-predictions", "/experiments/lora-r4/predictions"],
  ["experiment-prediction-open", "/experiments/lora-r4/predictions", async (page) => page.locator("[data-predictions] .opener button").first().click()],
  ["experiment-predictions-none", "/experiments/support-small/predictions"],
  ["experiment-logs", "/experiments/lora-r16/logs"],
  ["experiment-config", "/experiments/lora-r16/config"], ["experiment-artifacts", "/experiments/lora-r16/artifacts"], ["experiment-failed", "/experiments/hot-rate"],
  ["compare", "/experiments/compare?ids=lora-r16,lora-r4,full-weights"],
  ["chat", "/chat?model=run:lora-r16"],
  ["chat-side-by-side", "/chat?model=run:lora-r16&beside=1", async (page) => {
    await page.getByLabel("Message").fill("Shut the attic blinds.");
    await page.getByLabel("Message").press("Enter");
    await page.locator("[data-answer] .tools").nth(1).waitFor();
    await page.getByRole("button", { name: "Settings", exact: true }).click();
  }],
  ["settings", "/settings"], ["settings-defaults", "/settings/defaults"], ["settings-secrets", "/settings/secrets"], ["settings-models", "/settings/models"], ["settings-storage", "/settings/storage"],
  ["delete-dialog", "/experiments/lora-r4", async (page) => {
    await page.getByRole("button", { name: "More actions" }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
  }],
  ["not-found", "/nothing-here"],
];
const LOOKS = [["light", { colorScheme: "light" }], ["dark", { colorScheme: "dark" }], ["phone", { colorScheme: "light", viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }]];

const browser = await openBrowser();
let failed = 0;
async function shoot(base, look, options, pages) {
  const { context, page, problems } = await openPage(browser, base, options);
  for (const [name, path, act] of pages) {
    if (!name.includes(only)) continue;
    await page.goto(base + path);
    await page.locator("h1").first().waitFor();
    try {
      await act?.(page);
    } catch (error) {
      problems.push(`${name}: ${error.message.split("\n")[0]}`);
    }
    await page.waitForTimeout(name === "home" ? 2600 : 900);
    const wide = await tooWide(page);
    if (wide > 0) problems.push(`${name} is ${wide} px too wide`);
    await page.screenshot({ path: `${folder}/${name}-${look}.png`, fullPage: !/dialog|menu|^chat/.test(name) });
  }
  await context.close();
  for (const problem of problems) console.error(`${look}: ${problem}`);
  failed += problems.length;
}

for (const [look, options] of LOOKS) {
  const full = await studio();
  await shoot(full.url, look, options, PAGES);
  await full.stop();
  const empty = await studio({ args: ["--empty"] });
  await shoot(empty.url, look, options, [["empty-home", "/"], ["empty-datasets", "/datasets"], ["empty-experiments", "/experiments"], ["empty-new", "/experiments/new"], ["empty-chat", "/chat"]]);
  await empty.stop();
  const locked = await studio({ args: ["--password", "secret"] });
  await shoot(locked.url, look, options, [["login", "/"]]);
  await locked.stop();
}
await browser.close();
console.log(`pictures in ${folder}${failed ? `, ${failed} problems` : ""}`);
process.exitCode = failed ? 1 : 0;
