// The mock's data: a home-assistant data set, a support data set, and a handful of experiments about them.
import { readFileSync } from "node:fs";
import { checkTargets, guessTargets, hasLabels, NO_TARGETS, targetDatasets, targetRows, targetStatistics, targetTurns } from "./targets.mjs";

const fixture = (name) => readFileSync(new URL(`./fixtures/${name}`, import.meta.url), "utf8");
export const schema = JSON.parse(fixture("schema.json"));
const tokenFixture = JSON.parse(fixture("tokens.json"));
const lines = (name) => fixture(name).trim().split("\n").map((line) => JSON.parse(line));
const commands = lines("train.jsonl");
export const sampleText = () => fixture("held-out.jsonl");

const TYPE = "text_causal_language_modeling";
const settingsFor = (table) => ({
  problem_type: TYPE, train_table: table, validation_table: null, validation_size: 0.05, layout: "columns",
  system_column: "system", prompt_columns: ["prompt"], answer_column: "answer", parent_id_column: null, id_column: null, ...NO_TARGETS,
});

export function sampleDataset(now) {
  return {
    id: "home-commands", name: "Home commands (sample)", problem_type: TYPE,
    settings: { ...settingsFor("train.jsonl"), validation_table: "held-out.jsonl" }, n_rows: 900, n_validation_rows: 60, n_bytes: 143218,
    tables: [{ path: "train.jsonl", n_rows: 900, n_bytes: 134130 }, { path: "held-out.jsonl", n_rows: 60, n_bytes: 9088 }],
    created_unix_secs: now, source: "sample",
  };
}
const supportDataset = (now) => ({
  id: "support-replies", name: "Support replies", problem_type: TYPE, settings: settingsFor("tickets.csv"), n_rows: 12480,
  n_validation_rows: 624, n_bytes: 9_812_331, tables: [{ path: "tickets.csv", n_rows: 13104, n_bytes: 9_812_331 }],
  created_unix_secs: now - 5 * 86400, source: "upload of tickets.csv",
});
export const demoModel = () => ({
  name: "HuggingFaceTB/SmolLM2-135M-Instruct", path: "/home/ada/.cache/tunesmith/models/SmolLM2-135M-Instruct.Q4_1.gguf",
  n_bytes: 98362432, architecture: "llama", n_parameters: 134515008, dtype: "int4", is_demo: true,
});

let serial = 0;
const run = (id, name, more) => ({
  id, name, dataset_id: "home-commands", model: "HuggingFaceTB/SmolLM2-135M-Instruct", values: {}, state: "finished", n_steps: 225,
  seed: ++serial, from: 2.75, floor: 0.06, speed: 7, tokens_per_sec: 412, peak_memory: 1.31e9, order: serial, ...more,
});

export function initialState(empty, now) {
  const experiments = empty ? [] : [
    run("lora-r16-2e-3", "lora-r16-fast", { state: "live", started: now - 30, created: now - 40, floor: 0.05, speed: 8, n_steps: 900,
      values: { "training.learning_rate": 0.002, "training.lora_r": 16, "training.epochs": 4, "training.batch_size": 4 } }),
    run("lora-r32", "lora-r32", { state: "queued", created: now - 35, values: { "training.lora_r": 32 } }),
    run("support-small", "support-first-try", { state: "queued", created: now - 33, dataset_id: "support-replies", n_steps: 3120 }),
    run("lora-r16", "lora-r16", { created: now - 7300, started: now - 7200, ended: now - 6400, real_secs_per_step: 3.5, floor: 0.04,
      values: { "training.lora_r": 16, "training.lora_alpha": 32, "training.learning_rate": 0.001, "training.batch_size": 4, "dataset.text_format": "chat_template" } }),
    run("lora-r4", "lora-r4", { created: now - 86000, started: now - 85900, ended: now - 85100, real_secs_per_step: 3.3, floor: 0.13, speed: 5,
      values: { "training.learning_rate": 0.001, "training.batch_size": 4, "dataset.text_format": "chat_template" } }),
    run("full-weights", "full-weights", { state: "stopped", at_step: 96, created: now - 2 * 86400, started: now - 2 * 86400, ended: now - 2 * 86400 + 900,
      peak_memory: 3.9e9, real_secs_per_step: 9.1, values: { "training.lora": false, "training.learning_rate": 0.00005, "training.batch_size": 4 } }),
    run("hot-rate", "rate-too-high", { state: "failed", at_step: 31, created: now - 3 * 86400, started: now - 3 * 86400, ended: now - 3 * 86400 + 120,
      real_secs_per_step: 3.4, floor: 2.5, values: { "training.learning_rate": 0.05, "training.batch_size": 4 },
      failure: { kind: "Training error", message: "the training loss is NaN at optimizer step 31 (epoch 1); rows of the samples concerned: 112",
        hint: "look at these rows; try a lower training.learning_rate, training.warmup_epochs of 0.1 or more, or training.gradient_clip of 1" } }),
  ];
  return {
    datasets: empty ? [] : [sampleDataset(now - 4 * 86400), supportDataset(now), ...targetDatasets(now)],
    experiments,
    models: empty ? [] : [demoModel(), { ...demoModel(), name: "h2oai/h2o-danube3-500m-base", n_bytes: 1_027_000_000, n_parameters: 513e6, dtype: "bfloat16", is_demo: false }],
    loaded: [],
    settings: { max_upload_bytes: 10e9, runs_per_device: 1, queue_paused: false, theme: "system", cache_dir: "/home/ada/.cache/tunesmith", chat_device: "auto", max_chart_points: 1000, confirm_deletes: true },
    secrets: [
      ["huggingface_token", "Hugging Face access token", "Private and gated models and data sets. From huggingface.co, Settings, Access Tokens."],
      ["kaggle_key", "Kaggle key", "The contents of kaggle.json, or an access token. From kaggle.com, Settings, API."],
      ["s3_access_key_id", "S3 access key ID", "Private buckets of Amazon S3, MinIO and the like."],
      ["s3_secret_access_key", "S3 secret access key", "The second half of the key."],
      ["azure_connection_string", "Azure connection string", "Private containers. From the storage account, Access keys or Shared access signature."],
      ["google_service_account", "Google service account", "Private buckets: the whole JSON key file of an account that may read them."],
    ].map(([name, label, hint]) => ({ name, label, hint, is_set: name === "huggingface_token" && !empty, store: "file" })),
    storage: [
      ["models", "Downloaded models", "/home/ada/.cache/tunesmith/models", 1.125e9, 4, false], ["tokens", "Token cache", "/home/ada/.cache/tunesmith/tokens", 1.9e6, 31, true],
      ["datasets", "Data sets", "/home/ada/tunesmith/datasets", 9.96e6, 6, false], ["experiments", "Experiments", "/home/ada/tunesmith/experiments", 4.31e8, 148, false],
      ["uploads", "Unfinished uploads", "/home/ada/tunesmith/uploads", 2.2e7, 2, true],
    ].map(([what, label, path, n_bytes, n_files, can_clean]) => ({ what, label, path, n_bytes, n_files, can_clean })),
  };
}

export function newExperiment(name, dataset_id, values, grid, now, i) {
  const id = `${name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-${Math.floor(now) % 100000}${i || ""}`;
  const epochs = Number(values["training.epochs"] ?? 1);
  return run(id, name, { dataset_id, values, grid, model: values.llm_backbone ?? "h2oai/h2o-danube3-500m-base", state: "queued", created: now, order: now + i, n_steps: Math.max(1, Math.round(225 * epochs)) });
}

export const machine = (share, used) => ({
  version: "0.1.0", platform: "aarch64", os: "linux", hostname: "grace", workdir: "/home/ada/tunesmith", home_dir: "/home/ada",
  cpu: { model: "Neoverse-V2", n_cores: 8, instruction_sets: ["neon", "fp16", "bf16", "i8mm"] },
  memory: { total_bytes: 34359738368, available_bytes: 34359738368 - used }, disk: { path: "/home/ada/tunesmith", total_bytes: 512e9, free_bytes: 341e9 },
  devices: [{ name: "cpu", label: "Neoverse-V2, 8 cores", kind: "cpu", memory_total_bytes: 34359738368, is_default: true }],
  passed_over: [{ backend: "cuda", reason: "libcuda.so.1 not found" }, { backend: "mps", reason: "exists on macOS only" }],
  load: { cpu_share: share, devices: [{ name: "cpu", share, memory_used_bytes: used }] },
});

export function files(path) {
  const tree = { "/home/ada": [["data", true], ["projects", true], ["rows.csv", 48211]], "/home/ada/data": [["gsm8k", true], ["tickets.csv", 9812331], ["chat.jsonl", 2201234], ["archive.zip", 812000]] };
  const at = path || "/home/ada";
  const entries = (tree[at] ?? []).map(([name, n]) => ({ name, path: `${at}/${name}`, is_dir: n === true, n_bytes: n === true ? null : n, modified_unix_secs: 1769850000 }));
  return { path: at, parent: at.lastIndexOf("/") > 0 ? at.slice(0, at.lastIndexOf("/")) : null, entries };
}

// Imports -------------------------------------------------------------------------------------------------------
function parseTable(name, text) {
  if (/\.csv$|\.tsv$/i.test(name)) {
    const rows = text.trim().split(/\r?\n/).map((line) => (line.match(/("([^"]|"")*"|[^,]*)(,|$)/g) ?? []).map((cell) => cell.replace(/,$/, "").replace(/^"|"$/g, "").replaceAll('""', '"')).slice(0, line.split(",").length));
    return { columns: rows[0], rows: rows.slice(1).map((row) => rows[0].map((_, i) => row[i] || null)) };
  }
  const objects = text.trim().split("\n").map((line) => JSON.parse(line));
  const columns = Object.keys(objects[0]);
  return { columns, rows: objects.map((o) => columns.map((c) => o[c] ?? null)) };
}

/** What is in a column: gaps, different values and the first of them. */
function describeColumn(name, cells) {
  const filled = cells.filter((cell) => cell !== null && cell !== "").map(String);
  const values = [...new Set(filled)];
  const kind = values.length === 0 ? "empty" : values.every((value) => Number.isFinite(Number(value))) ? "number" : "text";
  return { name, kind, n_missing: cells.length - filled.length, n_unique: values.length, examples: values.slice(0, 3) };
}

/** Where an import comes from, in the server's words. */
const inWords = (source, name) =>
  ({ upload: () => `upload of ${name}`, local: () => source.path, url: () => source.url.split(/[?#]/)[0], hub: () => `${source.repo} (${source.split ?? "train"}) on the Hugging Face hub` })[source.kind]();

export function readImport(name, text, source) {
  const { columns, rows } = parseTable(name, text);
  const pick = (...names) => columns.find((c) => names.includes(c.toLowerCase())) ?? null;
  const prompt = pick("prompt", "instruction", "question", "input");
  const answer = pick("answer", "output", "response", "completion");
  const id = `imp-${Date.now()}-${Math.floor(Math.random() * 1e4)}`;
  const table = name.replace(/\.zip$/, ".csv");
  const made = {
    id, columns, rows, name, text,
    answer: {
      id, suggested_name: name.replace(/\.\w+$/, ""), source: inWords(source, name),
      tables: [{ path: table, n_rows: rows.length, n_bytes: text.length,
        columns: columns.map((c, i) => describeColumn(c, rows.map((row) => row[i]))),
        rows: rows.slice(0, 50) }],
      guess: { ...settingsFor(table), system_column: pick("system"), prompt_columns: prompt ? [prompt] : [], answer_column: answer, ...guessTargets(columns, rows) },
      problems: [],
    },
  };
  made.answer.problems = check(made, made.answer.guess).problems;
  return made;
}

export function check(made, settings) {
  const problems = [];
  const index = (name) => made.columns.indexOf(name);
  if (hasLabels(settings)) {
    const cell = (row, name) => row[index(name)] ?? null;
    const found = checkTargets(settings, made.rows, cell);
    const conversations = found.problems.length ? [] : made.rows.slice(0, 20).map((row, i) => ({ row: i, note: null, turns: targetTurns(settings, (name) => cell(row, name)).map(([role, content]) => ({ role, content })) }));
    return { ...found, conversations };
  }
  if (!settings.answer_column)
    problems.push({ level: "error", message: "No column is chosen for the answer.", hint: "Choose the column that holds what the model should say.", rows: null, field: "answer_column" });
  if (settings.prompt_columns.length === 0)
    problems.push({ level: "warning", message: "No column is chosen for the prompt: the model would learn the answers as plain text.", hint: "Choose the column with the question, unless this is continued pre-training.", rows: null, field: "prompt_columns" });
  const empty = settings.answer_column ? made.rows.flatMap((row, i) => (row[index(settings.answer_column)] ? [] : [i + 2])) : [];
  if (empty.length)
    problems.push({ level: "warning", message: `${empty.length} rows have no answer; they will be left out.`, hint: "Fill them in, or leave them.", rows: empty.slice(0, 20), field: "answer_column" });
  const cell = (row, name) => (name ? row[index(name)] : null);
  const conversations = made.rows.slice(0, 20).map((row, i) => ({
    row: i, note: null,
    turns: [["system", cell(row, settings.system_column)], ["user", settings.prompt_columns.map((c) => cell(row, c)).filter(Boolean).join("\n\n")], ["assistant", cell(row, settings.answer_column)], ["rejected_prompt", cell(row, settings.rejected_prompt_column)], ["rejected", cell(row, settings.rejected_answer_column)]].filter(([, content]) => content).map(([role, content]) => ({ role, content })),
  })).filter((c) => c.turns.length);
  return { problems, conversations, num_classes: null };
}

export function datasetFromImport(made, body, now) {
  const t = made.answer.tables[0];
  const held = Math.ceil(t.n_rows * (body.settings.validation_size ?? 0.05));
  return { id: `${body.name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`, name: body.name, problem_type: body.settings.problem_type, settings: body.settings, n_rows: t.n_rows - held, n_validation_rows: held, n_bytes: t.n_bytes, tables: [{ path: t.path, n_rows: t.n_rows, n_bytes: t.n_bytes }], created_unix_secs: now, source: made.answer.source, imported: check(made, body.settings).conversations.map((c) => c.turns) };
}

export function rowsOf(d, query) {
  if (d.imported) {
    const said = (turns, role) => turns.find((t) => t.role === role)?.content ?? null;
    return { columns: ["system", "prompt", "answer"], n_rows: d.imported.length, rows: d.imported.map((turns) => ["system", "user", "assistant"].map((role) => said(turns, role))) };
  }
  const targets = targetRows(d, query);
  if (targets) return targets;
  const offset = Number(query.get("offset") ?? 0);
  const limit = Number(query.get("limit") ?? 50);
  const n = Math.min(d.n_rows, 900);
  return { columns: ["system", "prompt", "answer"], n_rows: n, rows: Array.from({ length: Math.max(0, Math.min(limit, n - offset)) }, (_, i) => commands[(offset + i) % commands.length]).map((r) => [r.system, r.prompt, r.answer]) };
}
export function conversationsOf(d, query) {
  const { columns, rows, n_rows } = rowsOf(d, query);
  const offset = Number(query.get("offset") ?? 0);
  if (targetRows(d, query)) return { n: n_rows, conversations: rows.map((row, i) => ({ row: offset + i, note: null, turns: targetTurns(d.settings, (name) => row[columns.indexOf(name)]).map(([role, content]) => ({ role, content })) })) };
  return { n: n_rows, conversations: rows.map(([system, prompt, answer], i) => ({ row: offset + i, note: null, turns: [["system", system], ["user", prompt], ["assistant", answer]].filter(([, content]) => content).map(([role, content]) => ({ role, content })) })) };
}
const histogram = (from, step, counts) => {
  const bins = counts.map((count, i) => ({ from: from + i * step, to: from + (i + 1) * step - 1, count }));
  return { bins, min: from, max: from + counts.length * step - 1, mean: from + step * counts.length * 0.43, p50: from + step * Math.floor(counts.length * 0.4), p95: from + step * Math.floor(counts.length * 0.8) };
};
function columnsOf(d) {
  const { columns, rows } = rowsOf(d, new URLSearchParams({ limit: "900" }));
  const described = columns.map((name, i) => describeColumn(name, rows.map((row) => row[i])));
  // The fixture is a part of the data sets that it stands for: they have more different values.
  return d.imported || columns.length < 3 ? described : described.map((column, i) => ({ ...column, n_unique: [1, 871, 512][i] }));
}
export const statisticsOf = (d) => ({
  n_conversations: d.n_rows, turns: histogram(3, 1, [d.n_rows]), prompt_words: histogram(3, 1, [12, 88, 151, 204, 186, 120, 71, 40, 19, 9]),
  answer_words: histogram(1, 1, [410, 220, 118, 92, 41, 12, 7]), conversation_words: histogram(7, 1, [8, 60, 133, 190, 201, 142, 88, 45, 22, 11]),
  columns: columnsOf(d), targets: targetStatistics(d),
});

// Configuration -------------------------------------------------------------------------------------------------
const fields = schema.sections.flatMap((s) => s.fields);
const scalar = (v) => (v === null || v === "" ? "''" : Array.isArray(v) ? `[${v.join(", ")}]` : String(v));
export function toYaml(values) {
  const out = [];
  for (const s of schema.sections) {
    const set = s.fields.filter((f) => values[f.path] !== undefined && JSON.stringify(values[f.path]) !== JSON.stringify(f.default));
    if (!set.length) continue;
    if (s.name === "general") set.forEach((f) => out.push(`${f.name}: ${scalar(values[f.path])}`));
    else out.push("", `${s.name}:`, ...set.map((f) => `    ${f.name}: ${scalar(values[f.path])}`));
  }
  return out.join("\n").trim() + "\n";
}
export function parseYaml(text) {
  const values = {};
  const warnings = [];
  let section = "";
  for (const [i, line] of text.split("\n").entries()) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const m = /^(\s*)([\w]+):\s*(.*?)\s*$/.exec(line);
    if (!m) return { error: { message: `line ${i + 1} is not “name: value”`, line: i + 1, column: 1 } };
    if (!m[1] && m[3] === "") {
      section = m[2];
      continue;
    }
    const path = m[1] ? `${section}.${m[2]}` : m[2];
    const field = fields.find((f) => f.path === path);
    if (!field) {
      warnings.push(`line ${i + 1}: there is no field ${path}`);
      continue;
    }
    const raw = m[3].replace(/^['"]|['"]$/g, "");
    values[path] = field.kind === "bool" ? raw === "true" : ["int", "float"].includes(field.kind) ? Number(raw) : field.kind.endsWith("list") ? raw.replace(/^\[|\]$/g, "").split(",").map((x) => x.trim()).filter(Boolean) : raw;
  }
  return { values, warnings };
}
export function checkConfig(values) {
  const findings = [];
  if (Number(values["training.learning_rate"] ?? 1e-4) > 0.01)
    findings.push({ level: "warning", field: "training.learning_rate", message: "A learning rate above 0.01 usually makes the loss explode.", hint: "Adapters want 1e-5 to 5e-4." });
  if (values["training.lora"] === false && (values["architecture.backbone_dtype"] ?? "int4").startsWith("int"))
    findings.push({ level: "error", field: "architecture.backbone_dtype", message: "All weights are trained, and int4 weights cannot be.", hint: "Choose float32 or bfloat16, or train adapters (LoRA)." });
  return { findings, yaml: toYaml(values), changed: fields.filter((f) => values[f.path] !== undefined && JSON.stringify(values[f.path]) !== JSON.stringify(f.default)).map((f) => f.path) };
}
export function tokens(body) {
  const max = Number(body.values["tokenizer.max_length"] ?? 512);
  const maskPrompt = body.values["dataset.mask_prompt_labels"] !== false;
  const from = body.first ?? 0;
  const samples = tokenFixture.samples.slice(from % 20, (from % 20) + (body.n ?? 5)).map((sample) => {
    const cut = Math.max(0, sample.tokens.length - max);
    const kept = sample.tokens.slice(cut).map((t) => (maskPrompt ? t : { ...t, trained: true }));
    return { ...sample, tokens: kept, n_trained: kept.filter((t) => t.trained).length, n_prompt_cut: cut, warnings: cut ? [`${cut} tokens at the start were cut: the sample is longer than tokenizer.max_length`] : [] };
  });
  const s = tokenFixture.statistics;
  const bins = s.histogram.map((b) => ({ ...b, n_cut: b.from > max ? b.n_samples : 0 }));
  const n_cut = bins.reduce((n, b) => n + b.n_cut, 0);
  return { ...tokenFixture, samples, statistics: { ...s, max_length: max, histogram: bins, n_cut, n_cut_tokens: n_cut * 6 }, warnings: n_cut ? [`${n_cut} of 900 samples are longer than tokenizer.max_length (${max}) and lose tokens`] : [] };
}
export function forecast(values, d) {
  const batch = Number(values["training.batch_size"] ?? 2);
  const length = Number(values["tokenizer.max_length"] ?? 512);
  const big = values["training.lora"] === false;
  const parts = [["Model weights", big ? 5.4e8 : 2.7e8], ["Optimizer and gradients", big ? 1.6e9 : 2.9e7], ["Activations", batch * length * 3.2e5], ["Program", 1.8e8]].map(([name, n_bytes]) => ({ name, n_bytes }));
  const total = parts.reduce((n, p) => n + p.n_bytes, 0);
  const free = 28e9;
  const steps = Math.max(1, Math.floor((d.n_rows * Number(values["training.epochs"] ?? 1)) / batch));
  return { device: "cpu", memory: { parts, total_bytes: total, free_bytes: free, fits: total < free }, time: { steps, secs: steps * 0.42, secs_per_step: 0.42, based_on: "runs of this model on this machine" },
    suggestions: total < free ? [] : [{ text: "Train adapters instead of all weights", changes: { "training.lora": true } }, { text: "Halve the batch and add up gradients over two", changes: { "training.batch_size": Math.max(1, batch >> 1), "training.grad_accumulation": 2 } }, { text: "Cut samples at 512 tokens", changes: { "tokenizer.max_length": 512 } }] };
}
const ADAPTER_BYTES = 9_783_112;
export function detail(e, s, state) {
  const values = { llm_backbone: e.model, experiment_name: e.name, ...e.values };
  const done = s.step > 0 && ["finished", "stopped"].includes(s.status);
  const folder = `/home/ada/tunesmith/experiments/${e.id}`;
  const art = (name, label, n_bytes, path) => ({ name, label, n_bytes, path, file_name: path.split("/").pop() });
  return {
    ...s, values, changed: checkConfig(values).changed, dataset_settings: Object.fromEntries(Object.entries(values).filter(([path]) => path.startsWith("dataset."))), grid_changes: e.grid?.changes ?? null,
    record: { version: "0.1.0", device: "cpu", instruction_set: "bf16", seed: 1 }, yaml: toYaml(values), command: `tunesmith train -Y ${folder}/request.yaml --output ${folder}/run`, folder,
    artifacts: [...(done ? [art("adapter", "Adapter (PEFT)", ADAPTER_BYTES, "run/adapter_model")] : []), ...(e.merged ? [art("merged", "Merged model", 538e6, "exports/merged")] : []), ...(s.metric === null ? [] : [art("predictions", "Validation predictions", 14210, "run/validation_predictions.csv")]), ...(s.status === "queued" ? [] : [art("events", "Events", 81233, "run/events.jsonl"), art("log", "Log", 14022, "run/logs.log")]), art("config", "Experiment file", 812, "request.yaml"), ...(done ? [art("everything", "Everything, as zip", 21e6, "run")] : [])],
  };
}

// Chat ----------------------------------------------------------------------------------------------------------
export const chatModels = (state, all) => [
  ...all.filter((s) => s.can.chat).map((s) => ({ id: `run:${s.id}`, label: s.name, experiment_id: s.id, base: `model:${s.model}`, is_loaded: state.loaded.includes(`run:${s.id}`), context: 2048, n_bytes: ADAPTER_BYTES + (state.models.find((m) => m.name === s.model)?.n_bytes ?? 0) })),
  ...state.models.map((m) => ({ id: `model:${m.name}`, label: m.name, experiment_id: null, base: null, is_loaded: state.loaded.includes(`model:${m.name}`), context: 2048, n_bytes: m.n_bytes })),
];
export const chatDefaults = (model) => ({
  settings: { do_sample: false, temperature: 0, top_k: 0, top_p: 1, repetition_penalty: 1, max_length_inference: 256, num_history: 4 },
  system: model?.startsWith("run:") ? "Reply in JSON." : "You are a helpful assistant.",
  suggestions: ["wake me at seven on friday", "Shut the attic blinds.", "leo's phone is lost", "set the office volume to full"],
});
export function answer(body) {
  const said = body.messages.filter((m) => m.role === "user").at(-1)?.content ?? "";
  if (body.model.startsWith("run:")) {
    const room = /attic|office|kitchen|bedroom/.exec(said)?.[0] ?? "kitchen";
    if (/blind/.test(said)) return `{"action":"set_blinds","room":"${room}","state":"closed"}`;
    if (/phone/.test(said)) return '{"action":"find_phone","owner":"leo"}';
    if (/wake|alarm/.test(said)) return '{"action":"set_alarm","day":"friday","time":"07:00"}';
    return `{"action":"set_volume","room":"${room}","percent":100}`;
  }
  return "Here is one way to do it. **Ask for the room** first, then send a command:\n\n1. Find the device by its room\n2. Set its state\n\n```python\ndef close_blinds(room: str) -> dict:\n    # one call for each window\n    return {\"room\": room, \"state\": \"closed\", \"steps\": 3}\n```\n\n| Room | Blinds |\n|---|---|\n| attic | 2 |\n| office | 1 |\n\nTell me which room you mean, and I will go on from there.";
}
