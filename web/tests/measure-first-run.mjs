// How many clicks and how much time lie between the first page and a talk with one's own model, on the real program and the
// sample, with nothing in the cache: node tests/measure-first-run.mjs [picture folder]
//   TUNESMITH_BINARY=…/release/tunesmith   the program      ·   TUNESMITH_CACHE=…   a cache with the model, not to download it
import { mkdirSync } from "node:fs";
import { openBrowser, openPage } from "./browser.mjs";
import { binary, home } from "./real-studio.mjs";

if (!binary) throw new Error("TUNESMITH_BINARY is missing: the program");
const pictures = process.argv[2];
if (pictures) mkdirSync(pictures, { recursive: true });
const place = home({ isOnline: true });
const studio = await place.start();
const browser = await openBrowser();
const { page, problems } = await openPage(browser, studio.url);
page.setDefaultTimeout(900_000);
let clicks = 0;
let started = 0;
const click = (locator) => (clicks++, locator.click());
async function reached(what) {
  console.log(`${((performance.now() - started) / 1000).toFixed(1).padStart(7)} s  ${String(clicks).padStart(2)} clicks  ${what}`);
  if (pictures) await page.screenshot({ path: `${pictures}/${String(clicks).padStart(2, "0")}-${what.replaceAll(" ", "-")}.png` });
}
try {
  started = performance.now();
  await page.goto(studio.url);
  await page.getByRole("button", { name: "Try the sample" }).waitFor();
  await reached("first page");
  await click(page.getByRole("button", { name: "Try the sample" }));
  await page.waitForURL(/experiments\/new/);
  await page.locator("[data-forecast] .badge").waitFor();
  await reached("model and data are here, forecast made");
  await click(page.locator("[data-start]:enabled"));
  await page.waitForURL(/experiments\/(?!new)/);
  await page.locator('[data-chart="loss"] canvas').waitFor();
  await reached("first step on the chart");
  await page.getByText("Finished", { exact: true }).first().waitFor();
  await reached("trained");
  await click(page.getByRole("link", { name: "Chat", exact: true }).last());
  await click(page.locator(".suggestion").first());
  await page.locator("[data-answer] .tools").waitFor();
  await reached("answered");
  console.log(`asked:    ${(await page.locator(".user").first().innerText()).replaceAll("\n", " ")}`);
  console.log(`answered: ${(await page.locator("[data-answer] .md").first().innerText()).trim()}`);
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length ? 1 : 0;
} finally {
  await browser.close();
  await place.remove();
}
