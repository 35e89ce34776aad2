// The mock's data sets of classes and of numbers, and how it reads such columns: support messages by topic, reviews by score.

const CLASSIFICATION = "text_causal_classification_modeling";
const REGRESSION = "text_causal_regression_modeling";
const TOPICS = [
  ["I cannot log in since this morning.", "The reset link does not arrive.", "How do I change my password?", "My account is locked."],
  ["Where is my invoice for March?", "You charged my card twice.", "Can I pay by bank transfer?", "Please send the receipt to my new address."],
  ["The parcel has not arrived.", "How long does shipping to Norway take?", "The tracking number does not work.", "It was left with the wrong neighbour."],
  ["The app crashes when I open a photo.", "Export to PDF gives an empty page.", "The search finds nothing.", "After the update the fonts are tiny."],
];
const OPINIONS = ["Does what it says.", "Broke after a week, and nobody answers.", "Best purchase of the year!", "Fine for the price, but loud.", "Instructions are missing; the rest is good.", "Would buy it again.", "The colour is not that of the picture."];
const topic = (i) => [0, 1, 2, 3, 1, 3, 1, 2, 1][(i * 7) % 9];
const score = (i) => Math.round(10 * Math.min(5, Math.max(1, 3.7 + 1.4 * Math.sin(i * 1.7) + 0.6 * Math.cos(i * 0.31)))) / 10;

const SETS = {
  "ticket-topics": { columns: ["text", "label"], n: 2400, row: (i) => [TOPICS[topic(i)][Math.floor(i / 4) % 4], String(topic(i))] },
  "review-scores": { columns: ["review", "score"], n: 1800, row: (i) => [OPINIONS[i % OPINIONS.length], String(score(i))] },
};

/** The parts that no column of texts plays. */
export const NO_TARGETS = { label_columns: [], num_classes: null, rejected_answer_column: null, rejected_prompt_column: null };

export function targetDatasets(now) {
  return Object.entries(SETS).map(([id, { columns, n }], i) => ({
    id, name: ["Ticket topics", "Review scores"][i], problem_type: [CLASSIFICATION, REGRESSION][i],
    settings: {
      problem_type: [CLASSIFICATION, REGRESSION][i], train_table: `${id}.csv`, validation_table: null, validation_size: 0.05, layout: "columns", system_column: null, prompt_columns: [columns[0]],
      answer_column: null, parent_id_column: null, id_column: null, ...NO_TARGETS, label_columns: [columns[1]], num_classes: [4, null][i],
    },
    n_rows: n, n_validation_rows: null, n_bytes: n * 52, tables: [{ path: `${id}.csv`, n_rows: n, n_bytes: n * 52 }], created_unix_secs: now - (6 + i) * 86400, source: `upload of ${id}.csv`,
  }));
}

/** A page of their rows; null for other data sets. */
export function targetRows(d, query) {
  const set = SETS[d.id];
  if (!set) return null;
  const offset = Number(query.get("offset") ?? 0);
  const n = Math.max(0, Math.min(Number(query.get("limit") ?? 50), set.n - offset));
  return { columns: set.columns, n_rows: set.n, rows: Array.from({ length: n }, (_, i) => set.row(offset + i)) };
}

/** What is said of a row: its text, and each label or number. */
export const targetTurns = (settings, cell) => [
  ["user", settings.prompt_columns.map(cell).filter(Boolean).join("\n\n")],
  ...settings.label_columns.map((name) => [settings.problem_type === CLASSIFICATION ? "label" : "target", `${name}: ${cell(name)}`]),
];
export const hasLabels = (settings) => [CLASSIFICATION, REGRESSION].includes(settings.problem_type);

export function targetStatistics(d) {
  const set = SETS[d.id];
  if (!set) return [];
  const values = Array.from({ length: set.n }, (_, i) => Number(set.row(i)[1]));
  if (d.problem_type === CLASSIFICATION) {
    const labels = [...new Set(values)].sort((a, b) => a - b);
    return [{ column: set.columns[1], labels: labels.map((label) => ({ label, count: values.filter((v) => v === label).length })), numbers: null }];
  }
  values.sort((a, b) => a - b);
  const [min, max] = [values[0], values.at(-1)];
  const width = (max - min) / 20;
  const bins = Array.from({ length: 20 }, (_, i) => ({ from: min + i * width, to: min + (i + 1) * width, count: 0 }));
  for (const v of values) bins[Math.min(19, Math.floor((v - min) / width))].count++;
  const at = (share) => values[Math.floor((values.length - 1) * share)];
  return [{ column: set.columns[1], labels: [], numbers: { bins, min, max, mean: values.reduce((a, b) => a + b) / values.length, p50: at(0.5), p95: at(0.95) } }];
}

/** The roles of an import whose columns are named as labels or preferences are; nothing otherwise. */
export function guessTargets(columns, rows) {
  const rejected = columns.find((name) => /^rejected(?!_(prompt|input))/i.test(name));
  const text = (except) => columns.find((name) => !except.includes(name));
  if (rejected) {
    const chosen = columns.find((name) => /^chosen/i.test(name)) ?? null;
    return { problem_type: "text_dpo_modeling", answer_column: chosen, rejected_answer_column: rejected, prompt_columns: [text([chosen, rejected])].filter(Boolean) };
  }
  const label = columns.find((name) => /^(labels?|class|target|score|sentiment)$/i.test(name));
  const cells = rows.map((row) => row[columns.indexOf(label)]).filter(Boolean);
  if (!label || !cells.every((cell) => Number.isFinite(Number(cell)))) return {};
  const isClass = cells.every((cell) => Number.isInteger(Number(cell)) && Number(cell) >= 0);
  return { problem_type: isClass ? CLASSIFICATION : REGRESSION, answer_column: null, label_columns: [label], prompt_columns: [text([label])], system_column: null };
}

/** What is wrong with the labels of an import, and how many classes there are. */
export function checkTargets(settings, rows, cell) {
  const problems = [];
  const isClass = settings.problem_type === CLASSIFICATION;
  if (settings.label_columns.length === 0)
    problems.push({ level: "error", message: `no column of ${isClass ? "labels" : "numbers to predict"} is chosen`, hint: "choose one column, or several", rows: null, field: "label_columns" });
  for (const name of settings.label_columns) {
    const bad = (value) => value === null || value === "" || !(isClass ? /^\d+$/.test(value) : Number.isFinite(Number(value)));
    const wrong = rows.flatMap((row, i) => (bad(cell(row, name)) ? [i + 1] : []));
    if (wrong.length)
      problems.push({ level: "error", message: `${wrong.length} of ${rows.length} cells of ${name} are no ${isClass ? "whole " : ""}number`, hint: isClass ? "labels are the numbers of classes: 0, 1, 2, …" : "write numbers with a point, without units and separators", rows: wrong.slice(0, 100), field: "label_columns" });
  }
  const largest = Math.max(...rows.map((row) => Number(cell(row, settings.label_columns[0]))));
  const num_classes = !isClass || problems.length ? null : settings.label_columns.length > 1 ? settings.label_columns.length : largest <= 1 ? 1 : largest + 1;
  return { problems, num_classes };
}
