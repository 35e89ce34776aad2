// The logic of the experiment form: which fields show, which differ from their defaults, which grid runs come out.
import type { Dependency, Field, Schema, Value, Values } from "../api/types";

/** The fields as a problem type has them: its own defaults, and only the choices that make sense for it. */
export function schemaFor(schema: Schema, problemType: string): Schema {
  const ofType = (field: Field): Field => {
    const own = field.defaults_for[problemType];
    const choices = field.choices_for[problemType];
    return { ...field, ...(own === undefined ? {} : { default: own }), ...(choices ? { choices } : {}) };
  };
  return { ...schema, sections: schema.sections.map((section) => ({ ...section, fields: section.fields.map(ofType) })) };
}

/** The values without those that are no choice of their field, as happens when the problem type changes. */
export function withoutStrangers(schema: Schema, values: Values): Values {
  const choices = new Map(fieldsOf(schema).filter((field) => field.kind === "choice").map((field) => [field.path, field.choices]));
  return Object.fromEntries(Object.entries(values).filter(([path, value]) => choices.get(path)?.includes(String(value)) ?? true));
}

export function fieldsOf(schema: Schema): Field[] {
  return schema.sections.flatMap((section) => section.fields);
}

/** Values are compared as the config file writes them: `None` and empty mean "not set", lists in order. */
export function isSame(a: Value | undefined, b: Value | undefined): boolean {
  if (Array.isArray(a) || Array.isArray(b)) return JSON.stringify(a ?? []) === JSON.stringify(b ?? []);
  if (typeof a === "number" || typeof b === "number") return Number(a) === Number(b) && a !== null && b !== null;
  return normal(a) === normal(b);
}

function normal(value: Value | undefined): string {
  return value === null || value === undefined || value === "None" ? "" : String(value);
}

/** The value a field has: what was set, or its default. */
export function valueOf(field: Field, values: Values): Value {
  const set = values[field.path];
  return set === undefined ? (field.default ?? null) : set;
}

function isEmpty(value: Value): boolean {
  return value === null || value === "" || value === "None" || (Array.isArray(value) && value.length === 0);
}

/** A condition names a field of its own section, or any by its path. */
function parentOf(child: Field, dependency: Dependency, byPath: Map<string, Field>): Field | undefined {
  return byPath.get(dependency.field) ?? byPath.get(`${child.section}.${dependency.field}`);
}

function holds(child: Field, dependency: Dependency, byPath: Map<string, Field>, values: Values): boolean {
  const field = parentOf(child, dependency, byPath);
  if (!field) return true;
  const value = valueOf(field, values);
  // No value to compare with, and `None`, both ask whether the field is empty.
  const isThere = dependency.value === null || dependency.value === "None" ? isEmpty(value) : sameText(value, dependency.value);
  return isThere === dependency.is_set;
}

function sameText(value: Value, text: string): boolean {
  if (typeof value === "number") return value === Number(text);
  return String(value).toLowerCase() === text.toLowerCase();
}

/** Whether a field matters under these values: its own conditions, and those of the fields it depends on. */
export function applies(field: Field, byPath: Map<string, Field>, values: Values, depth = 0): boolean {
  if (depth > 8) return true;
  return field.depends_on.every((dependency) => {
    const parent = parentOf(field, dependency, byPath);
    return holds(field, dependency, byPath, values) && (!parent || applies(parent, byPath, values, depth + 1));
  });
}

/** Fields most people look at; the others come with "All settings". */
export const BASIC = new Set([
  "experiment_name",
  "llm_backbone",
  "tokenizer.max_length",
  "architecture.backbone_dtype",
  "architecture.gradient_checkpointing",
  "dataset.text_format",
  "dataset.data_sample",
  "training.lora",
  "training.lora_r",
  "training.lora_alpha",
  "training.learning_rate",
  "training.epochs",
  "training.batch_size",
  "training.grad_accumulation",
  "training.schedule",
  "training.save_checkpoint",
  "training.evaluation_epochs",
  "prediction.max_length_inference",
  "environment.device",
  "environment.seed",
]);

/** Fields that the data set or the page itself decides. */
const ELSEWHERE = new Set([
  "experiment_name",
  "output_directory",
  "problem_type",
  "dataset.train_dataframe",
  "dataset.validation_strategy",
  "dataset.validation_dataframe",
  "dataset.validation_size",
  "dataset.layout",
  "dataset.system_column",
  "dataset.prompt_column",
  "dataset.answer_column",
  "dataset.num_classes",
  "dataset.rejected_answer_column",
  "dataset.rejected_prompt_column",
  "dataset.parent_id_column",
  "dataset.id_column",
]);

/** Values of another experiment or a file without those that the chosen data set and the page decide. */
export function withoutElsewhere(values: Values): Values {
  return Object.fromEntries(Object.entries(values).filter(([path]) => !ELSEWHERE.has(path)));
}

export type View = { all: boolean; search: string; problemType: string };

export function isShown(field: Field, byPath: Map<string, Field>, values: Values, view: View): boolean {
  if (field.is_hidden || ELSEWHERE.has(field.path) || field.hidden_for.includes(view.problemType)) return false;
  const words = view.search.trim().toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length > 0) {
    const text = `${field.label} ${field.path} ${field.help} ${(field.choices ?? []).join(" ")}`.toLowerCase();
    return words.every((word) => text.includes(word)) && applies(field, byPath, values);
  }
  if (!view.all && !BASIC.has(field.path) && !isChanged(field, values)) return false;
  if (!view.all && !field.is_built) return false;
  return applies(field, byPath, values);
}

export function isChanged(field: Field, values: Values): boolean {
  return values[field.path] !== undefined && !isSame(values[field.path], field.default);
}

/** What is sent: what differs from the defaults, and what the studio's own defaults say. */
export function payload(schema: Schema, values: Values, settings: Record<string, unknown>): Values {
  const own = Object.entries(settings).filter(([key]) => key.startsWith("default."));
  const all = Object.fromEntries(own.map(([key, value]) => [key.slice("default.".length), value as Value]));
  for (const path of Object.keys(all)) if (values[path] !== undefined) all[path] = values[path];
  return withoutElsewhere({ ...all, ...changedOnly(schema, values) });
}

/** Only what differs from the defaults. */
export function changedOnly(schema: Schema, values: Values): Values {
  const byPath = new Map(fieldsOf(schema).map((field) => [field.path, field]));
  return Object.fromEntries(
    Object.entries(values).filter(([path, value]) => {
      const field = byPath.get(path);
      return !field || !isSame(value, field.default);
    }),
  );
}

/** What is typed into a number field, or why it is not one. */
export function parseNumber(field: Field, text: string): { value: number } | { problem: string } {
  const value = Number(text.trim().replace(",", "."));
  if (text.trim() === "" || !Number.isFinite(value)) return { problem: "A number is needed here." };
  if (field.kind === "int" && !Number.isInteger(value)) return { problem: "A whole number is needed here." };
  const limit = field.limit;
  if (limit) {
    if (limit.min !== null && (limit.is_min_excluded ? value <= limit.min : value < limit.min))
      return { problem: `It has to be ${limit.is_min_excluded ? "above" : "at least"} ${limit.min}.` };
    if (limit.max !== null && (limit.is_max_excluded ? value >= limit.max : value > limit.max))
      return { problem: `It has to be ${limit.is_max_excluded ? "below" : "at most"} ${limit.max}.` };
  }
  return { value };
}

/** How many runs a grid gives. */
export function gridSize(grid: Record<string, unknown[]>): number {
  return Object.values(grid).reduce((product, list) => product * Math.max(1, list.length), 1);
}

/** The next free name: `demo` → `demo.1` → `demo.2`. */
export function nextName(name: string, taken: Iterable<string>): string {
  const used = new Set(taken);
  const base = name.replace(/\.\d+$/, "");
  if (!used.has(base)) return base;
  for (let i = 1; ; i++) if (!used.has(`${base}.${i}`)) return `${base}.${i}`;
}
