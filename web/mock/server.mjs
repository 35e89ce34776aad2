// A stand-in for the studio's server: the same API with believable data and simulated runs, for flows and pictures.
//   node mock/server.mjs [--port 10111] [--empty] [--password secret] [--speed 1] [--state file]
// With --state it keeps its data in a file, so that a restart looks like the restart of the real one.
import { createReadStream, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as data from "./data.mjs";
import { csvOf, page, predictionsOf } from "./predictions.mjs";
import { eventsOf, logOf, seriesOf, summaryOf } from "./runs.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, "..", "dist");
const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "10111" },
    empty: { type: "boolean", default: false },
    password: { type: "string" },
    speed: { type: "string", default: "1" },
    state: { type: "string" },
  },
});
const speed = Number(options.speed);
const now = () => Date.now() / 1000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms / speed));

const state =
  options.state && existsSync(options.state)
    ? JSON.parse(readFileSync(options.state, "utf8"))
    : data.initialState(options.empty, now());
const save = () => options.state && writeFileSync(options.state, JSON.stringify(state));
const imports = new Map();
const jobs = new Map();
const listeners = new Set();
let cookie = null;
let failures = 0;

class Refusal extends Error {
  constructor(status, code, message, hint = null, details = null) {
    super(message);
    Object.assign(this, { status, body: { error: { code, message, hint, details } } });
  }
}
const missing = (what) => new Refusal(404, "not_found", `There is no such ${what}.`, "It may have been deleted in another window.");
const found = (value, what) => {
  if (!value) throw missing(what);
  return value;
};

// Streams -------------------------------------------------------------------------------------------------------
function openStream(response) {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  response.write(": hello\n\n");
  return (event, value, id) =>
    response.write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(value)}\n\n`);
}
const tell = (event, value) => listeners.forEach((send) => send(event, value));

// Jobs ----------------------------------------------------------------------------------------------------------
function startJob(kind, label, secs, work, total = null) {
  const id = `job-${jobs.size + 1}-${Math.floor(now())}`;
  const job = {
    id, kind, label, state: "running", done_bytes: total === null ? null : 0, total_bytes: total, share: 0,
    message: "Starting", error: null, result: null, started_unix_secs: now(), finished_unix_secs: null,
  };
  jobs.set(id, job);
  const steps = Math.max(2, Math.round(secs * 8));
  (async () => {
    for (let i = 1; i <= steps && job.state === "running"; i++) {
      await sleep((secs * 1000) / steps);
      if (job.state !== "running") break;
      job.share = i / steps;
      if (total !== null) job.done_bytes = Math.round(total * job.share);
      job.message = total === null ? "Working" : "Downloading";
      tell("job", job);
    }
    if (job.state === "running") {
      try {
        job.result = work?.() ?? {};
        job.state = "done";
        job.message = "Done";
      } catch (error) {
        job.state = "failed";
        job.error = error.body?.error ?? { message: error.message, hint: null };
      }
    }
    job.finished_unix_secs = now();
    save();
    tell("job", job);
  })();
  return job;
}

// Machine -------------------------------------------------------------------------------------------------------
function machine() {
  const running = state.experiments.filter((e) => summary(e).status === "running").length;
  const t = now() / 7;
  const share = Math.min(0.99, 0.08 + 0.04 * Math.sin(t) + (running ? 0.78 + 0.06 * Math.sin(t * 3) : 0));
  return data.machine(share, running ? 5.4e9 + 2e8 * Math.sin(t) : 2.1e9);
}
const summary = (experiment) => summaryOf(experiment, state, now(), speed);

setInterval(() => {
  const { load, memory, disk } = machine();
  tell("machine", { load, memory, disk });
}, 2000);
setInterval(() => {
  // The next in the queue starts when nothing runs.
  const all = state.experiments.map((e) => [e, summary(e)]);
  if (!state.settings.queue_paused && !all.some(([, s]) => ["running", "starting", "stopping"].includes(s.status))) {
    const next = all.filter(([, s]) => s.status === "queued").sort((a, b) => a[0].order - b[0].order)[0];
    if (next) {
      next[0].started = now();
      next[0].state = "live";
      save();
    }
  }
  for (const [e] of all) {
    const s = summary(e);
    const key = JSON.stringify([s.status, s.step, s.queue_position, s.name]);
    if (e.told !== key) {
      e.told = key;
      tell("experiment", s);
    }
  }
}, 500 / Math.min(speed, 4));

// Routes --------------------------------------------------------------------------------------------------------
const routes = [];
const on = (method, path, handler) => {
  const names = [];
  const pattern = new RegExp(`^${path.replace(/:(\w+)/g, (_, name) => (names.push(name), "([^/]+)"))}$`);
  routes.push({ method, pattern, names, handler });
};
const dataset = (id) => found(state.datasets.find((d) => d.id === id), "data set");
const withCount = ({ imported: _rows, ...d }) => ({ ...d, n_experiments: state.experiments.filter((e) => e.dataset_id === d.id).length });
const experiment = (id) => found(state.experiments.find((e) => e.id === id), "experiment");

on("GET", "/session", ({ request }) => ({
  password_required: !!options.password,
  authenticated: !options.password || isLoggedIn(request),
  version: "0.1.0",
}));
on("POST", "/session", ({ body, response }) => {
  if (failures >= 5) throw new Refusal(429, "too_many", "Too many attempts.", "Wait a minute, then try again.");
  if (body.password !== options.password) {
    failures++;
    throw new Refusal(401, "wrong_password", "This password is not right.");
  }
  cookie = Math.random().toString(36).slice(2);
  response.setHeader("Set-Cookie", `tunesmith=${cookie}; HttpOnly; SameSite=Strict; Path=/`);
  return {};
});
on("DELETE", "/session", () => ((cookie = null), {}));
on("GET", "/machine", machine);
on("GET", "/events", ({ request, response }) => {
  const send = openStream(response);
  const { load, memory, disk } = machine();
  send("machine", { load, memory, disk });
  listeners.add(send);
  response.on("close", () => listeners.delete(send));
});
on("GET", "/jobs", () => [...jobs.values()].reverse());
on("GET", "/jobs/:id", ({ id }) => found(jobs.get(id), "job"));
on("POST", "/jobs/:id/cancel", ({ id }) => {
  const job = found(jobs.get(id), "job");
  if (job.state === "running") Object.assign(job, { state: "cancelled", finished_unix_secs: now(), message: "Cancelled" });
  tell("job", job);
  return job;
});
on("GET", "/files", ({ query }) => data.files(query.get("path")));

on("POST", "/uploads", async ({ request, query }) => {
  let text = "";
  let n = 0;
  for await (const piece of request) {
    n += piece.length;
    if (n < 4e6) text += piece.toString("utf8");
  }
  const id = `u${imports.size}-${Date.now()}`;
  imports.set(id, { name: query.get("name"), text, n });
  return [201, { upload_id: id, name: query.get("name"), n_bytes: n }];
});
on("POST", "/sources/list", ({ body }) => {
  if (body.source.kind === "kaggle") return { folders: [], files: [{ key: "train.csv", n_bytes: 4182913, can_import: true }, { key: "notes.md", n_bytes: 1204, can_import: false }], is_cut: false };
  if ((body.source.bucket ?? body.source.container) === "closed") throw new Refusal(403, "access_refused", "s3://closed/ refuses access: no key was shown.", "It may need an access key and its secret key; see Settings, Secrets.");
  const at = body.source.key;
  if (at === "") return { folders: ["chats/"], files: [{ key: "readme.txt", n_bytes: 310, can_import: false }], is_cut: false };
  return { folders: [], files: [1, 2, 3].map((n) => ({ key: `${at}part-${n}.parquet`, n_bytes: 2097152 * n, can_import: true })), is_cut: false };
});
on("POST", "/imports", ({ body }) => {
  const source = body.source;
  const upload = source.kind === "upload" ? imports.get(source.upload_id) : null;
  const name = upload?.name ?? (source.path ?? source.url ?? source.repo ?? (source.file || source.dataset) ?? (source.key || source.bucket || source.container)).replace(/\/$/, "").split("/").pop();
  return [202, startJob("import", `Read ${name}`, source.kind === "upload" ? 0.5 : 1.6, () => {
    const made = data.readImport(name, upload ? upload.text : data.sampleText(), source);
    imports.set(made.id, made);
    return { import_id: made.id };
  }, upload ? null : 1234567)];
});
on("GET", "/imports/:id", ({ id }) => found(imports.get(id), "import").answer);
on("POST", "/imports/:id/check", ({ id, body }) => data.check(found(imports.get(id), "import"), body.settings));
on("DELETE", "/imports/:id", ({ id }) => (imports.delete(id), {}));
on("POST", "/datasets", ({ body }) => {
  if (state.datasets.some((d) => d.name === body.name))
    throw new Refusal(409, "name_taken", `There is a data set named “${body.name}” already.`, "Choose another name.");
  const made = data.datasetFromImport(found(imports.get(body.import_id), "import"), body, now());
  state.datasets.unshift(made);
  save();
  tell("dataset", { id: made.id, change: "created" });
  return [201, withCount(made)];
});
on("POST", "/datasets/sample", () => [202, startJob("sample", "Fetch the sample: data set and model", 2, () => {
  let d = state.datasets.find((d) => d.id === "home-commands");
  if (!d) state.datasets.unshift((d = data.sampleDataset(now())));
  if (!state.models.some((m) => m.is_demo)) state.models.push(data.demoModel());
  tell("dataset", { id: d.id, change: "created" });
  return { dataset_id: d.id };
}, 98362432)]);
on("GET", "/datasets", () => state.datasets.map(withCount));
on("GET", "/datasets/:id", ({ id }) => withCount(dataset(id)));
on("PATCH", "/datasets/:id", ({ id, body }) => {
  const d = dataset(id);
  if (body.name) d.name = body.name;
  if (body.settings) Object.assign(d.settings, body.settings);
  save();
  tell("dataset", { id, change: "changed" });
  return withCount(d);
});
on("DELETE", "/datasets/:id", ({ id }) => {
  const users = state.experiments.filter((e) => e.dataset_id === dataset(id).id).map((e) => e.name);
  if (users.length)
    throw new Refusal(409, "in_use", "Experiments use this data set.", `Delete them first: ${users.join(", ")}`, { experiments: users });
  state.datasets = state.datasets.filter((d) => d.id !== id);
  save();
  tell("dataset", { id, change: "deleted" });
  return {};
});
on("GET", "/datasets/:id/rows", ({ id, query }) => data.rowsOf(dataset(id), query));
on("GET", "/datasets/:id/conversations", ({ id, query }) => data.conversationsOf(dataset(id), query));
on("GET", "/datasets/:id/statistics", ({ id }) => data.statisticsOf(dataset(id)));
on("POST", "/datasets/:id/merge", ({ id, body }) => {
  const d = dataset(id);
  d.n_rows += dataset(body.from).n_rows;
  tell("dataset", { id, change: "changed" });
  return withCount(d);
});
on("GET", "/datasets/:id/download", ({ id, response }) => download(response, `${dataset(id).id}.zip`, "PK"));

on("GET", "/schema", () => data.schema);
on("POST", "/config/check", ({ body }) => data.checkConfig(body.values));
on("POST", "/config/parse", ({ body }) => {
  const parsed = data.parseYaml(body.yaml);
  if (parsed.error) throw new Refusal(422, "invalid_yaml", parsed.error.message, null, parsed.error);
  return parsed;
});
on("POST", "/tokens", async ({ body }) => {
  dataset(body.dataset_id);
  await sleep(300);
  return data.tokens(body);
});
on("POST", "/forecast", async ({ body }) => {
  await sleep(350);
  return data.forecast(body.values, dataset(body.dataset_id));
});
on("GET", "/models", () => state.models);
on("POST", "/models/download", ({ body }) => [202, startJob("download_model", `Download ${body.name}`, 4, () => {
  state.models.push({ ...data.demoModel(), name: body.name, is_demo: false });
  return { name: body.name };
}, 724e6)]);
on("DELETE", "/models/:name", ({ name }) => ((state.models = state.models.filter((m) => m.name !== name)), save(), {}));

on("GET", "/experiments", () => state.experiments.map(summary));
on("POST", "/experiments", ({ body }) => {
  const grid = Object.entries(body.grid ?? {});
  const runs = grid.reduce((list, [path, values]) => list.flatMap((run) => values.map((value) => [...run, [path, value]])), [[]]);
  const grid_id = `${body.name}-${Math.round(1000 * now())}`;
  const made = runs.map((run, i) => {
    const name = [body.name, ...run.map(([path, value]) => `${path.split(".").pop()}_${value}`)].join("_");
    if (state.experiments.some((e) => e.name === name))
      throw new Refusal(409, "name_taken", `There is an experiment named “${name}” already.`, "Choose another name.");
    const changes = Object.fromEntries(run);
    return data.newExperiment(name, body.dataset_id, { ...body.values, ...changes }, grid.length ? { id: grid_id, changes } : null, now(), i);
  });
  state.experiments.unshift(...made);
  save();
  return [201, made.map(summary)];
});
on("GET", "/experiments/:id", ({ id }) => data.detail(experiment(id), summary(experiment(id)), state));
on("PATCH", "/experiments/:id", ({ id, body }) => ((experiment(id).name = body.name), save(), summary(experiment(id))));
on("DELETE", "/experiments/:id", ({ id }) => {
  experiment(id);
  state.experiments = state.experiments.filter((e) => e.id !== id);
  save();
  tell("experiment_deleted", { id });
  return {};
});
for (const action of ["stop", "kill", "resume", "requeue"]) {
  on("POST", `/experiments/:id/${action}`, ({ id }) => {
    const e = experiment(id);
    const s = summary(e);
    if (action === "stop" || action === "kill") {
      Object.assign(e, { state: action === "stop" ? "stopped" : "killed", at_step: s.step, ended: now() });
      if (s.status === "queued") e.state = "stopped";
    } else Object.assign(e, { state: "queued", resumed_from: action === "resume" ? s.step : 0, order: now() });
    save();
    return summary(e);
  });
}
on("PUT", "/queue", ({ body }) => {
  body.ids.forEach((id, i) => (experiment(id).order = i));
  save();
  return state.experiments.map(summary);
});
on("GET", "/experiments/:id/series", ({ id }) => seriesOf(experiment(id), summary(experiment(id))));
on("GET", "/experiments/:id/series.csv", ({ id, response }) => download(response, `${id}.csv`, "step,train_loss\n1,2.5\n"));
on("GET", "/experiments/:id/events", async ({ id, request, response, query }) => {
  const e = experiment(id);
  const send = openStream(response);
  let after = Number(request.headers["last-event-id"] ?? query.get("after") ?? 0);
  let open = true;
  response.on("close", () => (open = false));
  while (open) {
    const s = summary(e);
    for (const line of eventsOf(e, s, after)) send(line.event, line, (after = line.id));
    if (!["queued", "starting", "running", "stopping"].includes(s.status)) {
      send("end", {});
      return response.end();
    }
    await sleep(400);
  }
});
on("GET", "/experiments/:id/log", ({ id, query, response }) => {
  const text = logOf(experiment(id), summary(experiment(id)));
  const after = Number(query.get("after") ?? 0);
  response.setHeader("X-Next", String(Buffer.byteLength(text)));
  return Buffer.from(text).subarray(after).toString();
});
on("GET", "/experiments/:id/log.txt", ({ id, response }) =>
  download(response, `${id}.log`, logOf(experiment(id), summary(experiment(id)))));
on("GET", "/experiments/:id/artifacts/predictions", ({ id, response }) => download(response, `${id}-predictions.csv`, csvOf(predictions(id))));
on("GET", "/experiments/:id/artifacts/:name", ({ id, name, response }) => (experiment(id), download(response, `${id}-${name}.zip`, "PK")));
on("POST", "/experiments/:id/export", ({ id, body }) => [202, startJob("export", `Write the ${body.kind} model`, 2.5, () => {
  experiment(id).merged = true;
  return { path: "exports/merged" };
}, 538e6)]);
const predictions = (id) => {
  const table = predictionsOf(experiment(id), summary(experiment(id)));
  if (!table) throw new Refusal(404, "no_predictions", "there are no predictions yet", "the run writes them after every evaluation on the validation rows");
  return table;
};
on("GET", "/experiments/:id/predictions", ({ id, query }) => page(predictions(id), query));
on("GET", "/experiments/:id/predictions/:position", ({ id, position }) => {
  const { columns, cells } = predictions(id);
  return { columns, cells: found(cells[Number(position)], "row") };
});
on("GET", "/experiments/:id/samples", () => data.tokens({ first: 0, n: 3, rows: null, values: {} }));
on("POST", "/reindex", () => ({ found: state.experiments.length, added: 0 }));

on("GET", "/chat/models", () => data.chatModels(state, state.experiments.map(summary)));
on("GET", "/chat/defaults", ({ query }) => data.chatDefaults(query.get("model")));
on("POST", "/chat", async ({ body, request, response }) => {
  const send = openStream(response);
  let open = true;
  response.on("close", () => (open = false));
  if (!state.loaded.includes(body.model)) {
    for (const share of [0.2, 0.6, 1]) {
      send("loading", { message: "Loading the model", share });
      await sleep(250);
    }
    state.loaded = [body.model, ...state.loaded].slice(0, 2);
  }
  const text = data.answer(body);
  const pieces = text.match(/\s*\S{1,7}/g) ?? [];
  for (const piece of pieces) {
    if (!open) return;
    send("text", { text: piece });
    await sleep(36);
  }
  send("done", { finish: "end_of_text", n_prompt_tokens: 43, n_new_tokens: pieces.length, tokens_per_sec: 27.6, secs: pieces.length / 27.6 });
  response.end();
});
on("POST", "/chat/unload", ({ body }) => ((state.loaded = state.loaded.filter((m) => m !== body.model)), {}));

on("GET", "/settings", () => ({ values: state.settings, where: "/home/ada/tunesmith/studio.sqlite3" }));
on("PATCH", "/settings", ({ body }) => {
  for (const [key, value] of Object.entries(body)) {
    if (value === null) delete state.settings[key];
    else state.settings[key] = value;
  }
  save();
  return { values: state.settings, where: "/home/ada/tunesmith/studio.sqlite3" };
});
on("GET", "/secrets", () => state.secrets);
on("PUT", "/secrets/:name", ({ name }) => ((found(state.secrets.find((s) => s.name === name), "secret").is_set = true), save(), {}));
on("DELETE", "/secrets/:name", ({ name }) => ((found(state.secrets.find((s) => s.name === name), "secret").is_set = false), save(), {}));
on("GET", "/storage", () => state.storage);
on("POST", "/storage/:what/clean", ({ what }) => [202, startJob("cleanup", `Clean up ${what}`, 1, () => {
  const item = found(state.storage.find((s) => s.what === what), "folder");
  Object.assign(item, { n_bytes: 0, n_files: 0 });
})]);

// HTTP ----------------------------------------------------------------------------------------------------------
function isLoggedIn(request) {
  return cookie !== null && (request.headers.cookie ?? "").includes(`tunesmith=${cookie}`);
}
function download(response, name, text) {
  response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Disposition": `attachment; filename="${name}"` });
  response.end(text);
}

async function answerApi(request, response, url) {
  const path = url.pathname.slice("/api/v1".length);
  if (options.password && path !== "/session" && !isLoggedIn(request)) throw new Refusal(401, "login", "Log in first.");
  if (request.method !== "GET" && request.headers["x-tunesmith"] !== "1") throw new Refusal(403, "csrf", "The header X-Tunesmith is missing.");
  for (const { method, pattern, names, handler } of routes) {
    const m = method === request.method && pattern.exec(path);
    if (!m) continue;
    const params = Object.fromEntries(names.map((name, i) => [name, decodeURIComponent(m[i + 1])]));
    let body = {};
    if (request.headers["content-type"]?.startsWith("application/json")) {
      let text = "";
      for await (const piece of request) text += piece;
      body = text ? JSON.parse(text) : {};
    }
    const result = await handler({ ...params, body, query: url.searchParams, request, response });
    if (response.headersSent || result === undefined) return;
    const [status, value] = Array.isArray(result) && typeof result[0] === "number" ? result : [200, result];
    const isText = typeof value === "string";
    response.writeHead(status, { "Content-Type": isText ? "text/plain; charset=utf-8" : "application/json" });
    response.end(isText ? value : JSON.stringify(value));
    return;
  }
  throw missing("address");
}

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  try {
    if (url.pathname.startsWith("/api/v1/")) return await answerApi(request, response, url);
    let file = join(DIST, normalize(url.pathname));
    if (!file.startsWith(DIST) || !existsSync(file) || statSync(file).isDirectory()) file = join(DIST, "index.html");
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Security-Policy": POLICY });
    createReadStream(file).pipe(response);
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    if (response.headersSent) return response.end();
    response.writeHead(error.status ?? 500, { "Content-Type": "application/json" });
    response.end(JSON.stringify(error.body ?? { error: { code: "internal", message: String(error), hint: null, details: null } }));
  }
}).listen(Number(options.port), "127.0.0.1", () => console.log(`mock studio at http://127.0.0.1:${options.port}`));
