// Imports from a bucket, as a user does them, from a server that speaks the protocol of S3 and checks signatures (moto).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openBrowser } from "../browser.mjs";
import { needsBinary, withStudio } from "../real-studio.mjs";

const SCRIPT = fileURLToPath(new URL("../../../crates/sources/tests/servers/s3_server.py", import.meta.url));
const installed = process.env.TUNESMITH_SOURCE_SERVERS ?? "";
const needsServer = { skip: needsBinary.skip || (existsSync(join(installed, "installed")) ? false : "needs TUNESMITH_SOURCE_SERVERS, as scripts/source-servers prints") };

let browser, folder, server, facts;
before(async () => {
  browser = await openBrowser();
  if (needsServer.skip) return;
  folder = mkdtempSync(join(tmpdir(), "buckets-"));
  writeFileSync(join(folder, "rows.csv"), "question,answer\nHow much is it?,Ten.\nWhen does it open?,At nine.\nWho are you?,A shop.\n");
  writeFileSync(join(folder, "big.jsonl"), '{"question": "a", "answer": "b"}\n');
  writeFileSync(join(folder, "tables.zip"), Buffer.concat([Buffer.from("PK\x05\x06"), Buffer.alloc(18)]));
  server = spawn(join(installed, "venv/bin/python"), [SCRIPT, folder], { stdio: ["pipe", "pipe", "inherit"] });
  facts = JSON.parse(await new Promise((resolve) => createInterface(server.stdout).once("line", resolve)));
});
after(async () => {
  await browser.close();
  server?.stdin.end();
  if (folder) rmSync(folder, { recursive: true });
});

test("a table comes from a private bucket, with keys that were stored before", needsServer, async () => {
  await withStudio(browser, {}, async ({ page, studio }) => {
    await page.goto(`${studio.url}/datasets/import`);
    const form = async () => {
      await page.getByRole("button", { name: "Cloud storage" }).click();
      // A pasted address is taken apart.
      await page.getByLabel("Bucket").fill("s3://private/two/");
      await page.getByLabel("Bucket").blur();
      assert.equal(await page.getByLabel("Bucket").inputValue(), "private");
      await page.getByText("Another region").click();
      await page.getByLabel("Address of the service").fill(facts.endpoint);
      await page.getByRole("button", { name: "Browse" }).click();
    };
    const list = page.locator("[data-source-list]");
    // That server lets nobody read an object here who shows no key, though everybody see its name.
    await form();
    await list.getByText("second.csv").click();
    await page.getByText("refuses access").first().waitFor();

    await page.goto(`${studio.url}/settings/secrets`);
    for (const [label, value] of [["S3 access key ID", facts.reader.id], ["S3 secret access key", facts.reader.secret]]) {
      const line = page.locator(".line", { hasText: label });
      await line.getByLabel(label, { exact: true }).fill(value);
      await line.getByRole("button", { name: "Save" }).click();
      await line.getByText("Set, in an encrypted file.").waitFor();
    }

    await page.goto(`${studio.url}/datasets/import`);
    await form();
    await list.getByText("second.csv").waitFor();
    assert.ok(await list.getByRole("button", { name: "notes.pdf" }).isDisabled());
    await list.getByText("Folder above").click();
    await list.getByText("a/", { exact: true }).click();
    await list.getByText("rows.csv").click();
    await page.getByRole("heading", { name: "Preview" }).waitFor();
    await page.getByText("At nine.").first().waitFor();
    await page.getByRole("button", { name: "Import", exact: true }).click();
    await page.waitForURL(/datasets\/(?!import)/);
    await page.getByText("When does it open?").first().waitFor();
    assert.ok(!(await page.content()).includes(facts.reader.secret));
  });
});
