// What flows and pictures share: a browser, a mock of the server (or, with STUDIO_URL, a real one), and waiting.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

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
