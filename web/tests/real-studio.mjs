// The real program for flows: `tunesmith studio` on folders of its own, with a tiny model that trains in seconds.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { openPage, until } from "./browser.mjs";

const TINY = fileURLToPath(new URL("../../tests/golden/gguf/llama-tiny.gguf", import.meta.url));
// Nothing of a flow may depend on the network; who reaches for it, learns so at once.
const NOWHERE = "http://127.0.0.1:9";

export const binary = process.env.TUNESMITH_BINARY;
export const needsBinary = { skip: binary ? false : "needs TUNESMITH_BINARY, the program" };

/** A folder with a cache and a work folder; `start` runs a studio on it, and `remove` ends all that is there. Online it is as a user
 * has it: no tiny model, and the network. */
export function home({ isOnline = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "studio-flow-"));
  const work = join(folder, "work");
  const model = join(folder, "cache", "models", "tiny.gguf");
  mkdirSync(dirname(model), { recursive: true });
  if (!isOnline) copyFileSync(TINY, model);
  const running = new Set();
  return {
    model,
    async start({ port = 0 } = {}) {
      const cache = (isOnline && process.env.TUNESMITH_CACHE) || join(folder, "cache");
      const env = { ...process.env, TUNESMITH_CACHE: cache, ...(isOnline ? {} : { HF_ENDPOINT: NOWHERE, PIP_INDEX_URL: `${NOWHERE}/simple` }) };
      delete env.TUNESMITH_PASSWORD;
      const child = spawn(binary, ["studio", "--port", String(port), "--no-open", "--workdir", work], { cwd: folder, env, stdio: ["ignore", "pipe", "inherit"] });
      const ended = new Promise((resolve) => child.once("exit", resolve));
      const url = await new Promise((resolve, reject) => {
        createInterface(child.stdout).once("line", (line) => resolve(line.replace("studio: ", "").trim()));
        child.once("exit", (code) => reject(new Error(`the studio ended with ${code}`)));
      });
      // As a power cut would.
      const stop = async () => (child.kill("SIGKILL"), running.delete(stop), ended);
      running.add(stop);
      return { url, port: Number(new URL(url).port), stop };
    },
    /** The process that trains. */
    trainer: (id) => JSON.parse(readFileSync(join(work, "experiments", id, "process.json"), "utf8")).pid,
    /** Steps in the run's own record, in its order. */
    steps: (id) => events(join(work, "experiments", id, "run", "events.jsonl")).filter((event) => event.event === "step").map((event) => event.step),
    async remove() {
      for (const stop of [...running]) await stop();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A flow on a studio with a data set of forty rows. `create` makes an experiment of it, of a few steps unless told otherwise. */
export async function withStudio(browser, options, flow) {
  const place = home();
  const studio = await place.start();
  const { context, page, problems } = await openPage(browser, studio.url, options);
  page.setDefaultTimeout(60_000);
  try {
    const call = (method, path, body) => request(studio, method, path, body);
    const dataset = await importRows(call);
    const create = async (name, more = {}) => (await call("POST", "/experiments", { name, dataset_id: dataset, values: { ...MOMENT, llm_backbone: place.model, ...more } }))[0].id;
    await flow({ page, place, studio, context, call, dataset, create });
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
    await place.remove();
  }
}

// Some steps of a few milliseconds each.
const MOMENT = { "tokenizer.max_length": 64, "training.batch_size": 4, "training.epochs": 4, "training.evaluation_epochs": 20, "training.learning_rate": 0.001, "prediction.metric": "Perplexity" };

// As the app sends it; a string is sent as the file that it is.
async function request(studio, method, path, body) {
  const type = typeof body === "string" ? "application/octet-stream" : "application/json";
  const answer = await fetch(`${studio.url}/api/v1${path}`, { method, headers: { "X-Tunesmith": "1", "Content-Type": type }, body: typeof body === "object" ? JSON.stringify(body) : body });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

async function importRows(call) {
  const rows = Array.from({ length: 40 }, (_, i) => JSON.stringify({ prompt: `Where is order ${i}?`, answer: `It is in box ${i % 5}.` })).join("\n");
  const { upload_id } = await call("POST", "/uploads?name=orders.jsonl", rows);
  let job = await call("POST", "/imports", { source: { kind: "upload", upload_id } });
  await until(async () => (job = await call("GET", `/jobs/${job.id}`)).state !== "running", "the import does not end");
  if (job.state !== "done") throw new Error(JSON.stringify(job));
  const imported = await call("GET", `/imports/${job.result.import_id}`);
  return (await call("POST", "/datasets", { import_id: imported.id, name: "orders", settings: imported.guess })).id;
}

function events(path) {
  return readFileSync(path, "utf8").trim().split("\n").map((line) => JSON.parse(line));
}
