// What flows and pictures share: a browser, a mock of the server (or, with STUDIO_URL, a real one), and waiting.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const MOCK = fileURLToPath(new URL("../mock/server.mjs", import.meta.url));
export const external = process.env.STUDIO_URL?.replace(/\/$/, "") ?? null;

export async function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Starts the mock; `stop` ends it. With STUDIO_URL nothing is started. */
export async function studio({ port, args = [] } = {}) {
  if (external) return { url: external, port: null, stop: async () => {} };
  port ??= await freePort();
  const child = spawn(process.execPath, [MOCK, "--port", String(port), ...args], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", (code) => reject(new Error(`the mock ended with ${code}`)));
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return { url: `http://127.0.0.1:${port}`, port, stop: async () => (child.kill("SIGKILL"), ended) };
}

export async function openBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
  });
}

/** A page that fails the test by its errors: exceptions, blocked resources, requests to anywhere else. */
export async function openPage(browser, base, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", colorScheme: "light", acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(external ? 60_000 : 10_000);
  const problems = [];
  page.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  page.on("console", (message) => {
    // A lost server is part of some flows: the browser's own notes about it are no errors of the app.
    if (message.type() === "error" && !/ERR_CONNECTION|Failed to load resource|ERR_INCOMPLETE|ERR_EMPTY|ERR_NETWORK/.test(message.text())) problems.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !/^(data|blob):/.test(request.url())) problems.push(`request to ${request.url()}`);
  });
  return { context, page, problems };
}

/** What axe finds seriously wrong with the open page; its context has to be made with `bypassCSP`, for the policy forbids foreign scripts. */
export async function violations(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
  return found.violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => `${new URL(page.url()).pathname}: ${v.id}: ${v.nodes.map((n) => `${n.target.join(" ")} ${n.any[0]?.message ?? ""}`).slice(0, 2).join(" | ")}`);
}

/** By how many pixels the open page is wider than the screen. */
export const tooWide = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** How many points the loss chart of an open run shows. */
export const lossPoints = (page) => page.locator('[data-chart="loss"]').getAttribute("data-points").then(Number);

/** Waits until `check` holds. */
export async function until(check, message, secs = 60) {
  for (const end = Date.now() + secs * 1000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 150))) if (await check()) return;
  assert.fail(message);
}
