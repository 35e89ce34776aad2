// What the mock's runs predict on their validation rows: better with every evaluation, and wrong now and then to the end.
import { readFileSync } from "node:fs";
import { lastEvaluation, noise, validation } from "./runs.mjs";

const rows = readFileSync(new URL("./fixtures/held-out.jsonl", import.meta.url), "utf8").trim().split("\n").map((line) => JSON.parse(line));
const ANSWERS_TO = { attic: "office", closed: "open", saturday: "sunday", "09:00": "9 am", tomorrow: "today", open: "closed", kitchen: "bedroom", "20:00": "20:30", set_volume: "set_blinds" };

/** An answer as a model gives it that has not learned everything: a wrong value, or no JSON at all. */
function wrong(answer, luck) {
  if (luck > 0.86) return "I'm sorry, I can't control the devices in your home.\n\nIf you tell me which device you mean, I can explain how its app works.";
  for (const [right, other] of Object.entries(ANSWERS_TO)) if (answer.includes(`"${right}"`)) return answer.replace(`"${right}"`, `"${other}"`);
  return answer.replace(/"(\w+)"\}$/, '"the $1"}');
}

/** How many words of the answer stand in the prediction, as a stand-in for BLEU. */
const overlap = (answer, prediction) => {
  const words = answer.match(/\w+/g) ?? [];
  return (100 * words.filter((word) => prediction.includes(word)).length) / Math.max(1, words.length);
};

/** The table of one run; null before its first evaluation. */
export function predictionsOf(e, s) {
  const step = lastEvaluation(e, s.step);
  if (!step) return null;
  const level = validation(e, step);
  const cells = rows.map(({ system, prompt, answer }, i) => {
    const luck = noise(e.seed + 31, i);
    const isWrong = luck > 1 - Math.min(0.9, 0.1 + level * 0.5);
    const prediction = isWrong ? wrong(answer, noise(e.seed + 77, i)) : answer;
    const loss = level * (0.35 + 1.3 * noise(e.seed + 3, i)) * (isWrong ? 6 : 1);
    return [i, `${system}\n\n${prompt}`, answer, prediction, overlap(answer, prediction), loss, Math.exp(loss)];
  });
  const columns = ["row", "prompt", "answer", "prediction", "BLEU", "loss", "perplexity"];
  return { step, metric: "Perplexity", higher_is_better: false, sort_column: "perplexity", confusion: [], columns: columns.map((name) => ({ name, kind: typeof cells[0][columns.indexOf(name)] === "number" ? "number" : "text" })), cells };
}

/** A page of it. */
export function page({ columns, cells, ...about }, query) {
  const index = (name) => columns.findIndex((column) => column.name === name);
  const words = (query.get("search") ?? "").trim().toLowerCase();
  const sort = index(query.get("sort"));
  const sign = query.get("descending") === "true" ? -1 : 1;
  const differs = (row) => row[index("answer")] !== row[index("prediction")];
  let found = cells.map((row, at) => ({ row, at }));
  if (words) found = found.filter(({ row }) => row.some((cell) => typeof cell === "string" && cell.toLowerCase().includes(words)));
  if (query.get("differing") === "true") found = found.filter(({ row }) => differs(row));
  if (sort >= 0) found.sort((a, b) => sign * (a.row[sort] < b.row[sort] ? -1 : a.row[sort] > b.row[sort] ? 1 : 0));
  const offset = Number(query.get("offset") ?? 0);
  const shown = found.slice(offset, offset + Number(query.get("limit") ?? 50));
  return { ...about, columns, rows: shown.map(({ row }) => row), positions: shown.map(({ at }) => at), n_rows: cells.length, n_found: found.length };
}

/** All of it, as the run writes it. */
export function csvOf({ columns, cells }) {
  const quoted = (cell) => (/[",\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell));
  return [columns.map((column) => column.name), ...cells].map((row) => row.map(quoted).join(",") + "\n").join("");
}
