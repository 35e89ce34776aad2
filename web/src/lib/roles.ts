// Which columns of a table play which parts, by what is learned from them.
import type { DataSettings } from "../api/types";

export const LANGUAGE = "text_causal_language_modeling";
export const PRETRAINING = "text_continued_pretraining";
export const CLASSIFICATION = "text_causal_classification_modeling";
export const REGRESSION = "text_causal_regression_modeling";
export const SEQUENCES = "text_sequence_to_sequence_modeling";
export const PREFERENCES = "text_dpo_modeling";

export const PROBLEM_TYPES: { id: string; title: string; text: string }[] = [
  { id: LANGUAGE, title: "To write answers", text: "Language modeling: chats or instructions." },
  { id: PRETRAINING, title: "To know texts", text: "Continued pre-training: plain texts, such as documents, articles or code, of which all is learned." },
  { id: CLASSIFICATION, title: "To sort texts into classes", text: "Classification: one column with the number of the class, or several columns of 0 and 1." },
  { id: REGRESSION, title: "To predict numbers from texts", text: "Regression: one column of numbers, or several." },
  { id: SEQUENCES, title: "To turn texts into others", text: "Sequence to sequence: translations or summaries, with a model that has an encoder (T5)." },
  { id: PREFERENCES, title: "To prefer one answer to another", text: "Preference tuning (DPO): a chosen and a rejected answer to each prompt." },
];

/** Whether classes or numbers are learned, and no texts. */
export const hasLabels = (problemType: string): boolean => problemType === CLASSIFICATION || problemType === REGRESSION;

/** Whether something is asked before it is answered, and not only read. */
export const hasPrompts = (problemType: string): boolean => problemType !== PRETRAINING;

/** Whether rows may be conversations in one of the known layouts, and not columns alone. */
export const hasLayouts = (problemType: string): boolean => problemType === LANGUAGE || problemType === SEQUENCES;

export type ColumnRole = "answer_column" | "rejected_answer_column" | "rejected_prompt_column" | "system_column" | "parent_id_column" | "id_column";

/** The parts that one column each can play, besides prompts and labels. */
export function rolesOf(settings: DataSettings): [field: ColumnRole, title: string][] {
  if (hasLabels(settings.problem_type)) return [];
  if (settings.problem_type === PRETRAINING) return [["answer_column", "Text"]];
  const isPreference = settings.problem_type === PREFERENCES;
  const roles: [ColumnRole, string][] = [["answer_column", isPreference ? "Chosen answer" : "Answer"]];
  if (isPreference) roles.push(["rejected_answer_column", "Rejected answer"], ["rejected_prompt_column", "Prompt of the rejected answer, if it is another"]);
  roles.push(["system_column", "System text"], ["parent_id_column", "Parent (for conversations)"]);
  if (settings.parent_id_column) roles.push(["id_column", "Row id"]);
  return roles;
}

/** The same table for another purpose: what was chosen is kept where it has a meaning there. */
export function forProblemType(settings: DataSettings, problemType: string, columns: string[]): DataSettings {
  const next: DataSettings = { ...settings, problem_type: problemType, num_classes: null };
  const named = (start: string, except: (string | null)[] = []) => columns.find((name) => name.toLowerCase().startsWith(start) && !except.includes(name)) ?? null;
  if (hasLabels(problemType)) {
    if (next.label_columns.length === 0) {
      const label = columns.find((name) => /^(labels?|class|target|score|sentiment)$/i.test(name)) ?? settings.answer_column;
      next.label_columns = label ? [label] : [];
    }
    // What was to be written is now what is read, if nothing else is.
    const isLabel = (name: string) => next.label_columns.includes(name);
    const prompts = settings.prompt_columns.filter((name) => !isLabel(name));
    next.prompt_columns = prompts.length > 0 ? prompts : settings.answer_column && !isLabel(settings.answer_column) ? [settings.answer_column] : columns.filter((name) => !isLabel(name)).slice(0, 1);
    return { ...next, layout: "columns", answer_column: null, rejected_answer_column: null, rejected_prompt_column: null, system_column: null, parent_id_column: null, id_column: null };
  }
  next.answer_column ??= settings.label_columns[0] ?? null;
  next.label_columns = [];
  if (problemType === PRETRAINING) {
    const text = columns.find((name) => name.toLowerCase() === "text") ?? next.answer_column;
    return { ...next, layout: "columns", answer_column: text, prompt_columns: [], rejected_answer_column: null, rejected_prompt_column: null, system_column: null, parent_id_column: null, id_column: null };
  }
  if (problemType === PREFERENCES) {
    next.layout = "columns";
    next.rejected_prompt_column ??= named("rejected_prompt") ?? named("rejected_question") ?? named("rejected_instruction") ?? named("rejected_input");
    next.rejected_answer_column ??= named("rejected", [next.rejected_prompt_column]);
    next.answer_column = named("chosen") ?? (next.answer_column === next.rejected_answer_column ? null : next.answer_column);
    next.prompt_columns = next.prompt_columns.filter((name) => ![next.answer_column, next.rejected_answer_column, next.rejected_prompt_column].includes(name));
  } else {
    next.rejected_answer_column = next.rejected_prompt_column = null;
    next.prompt_columns = next.prompt_columns.filter((name) => name !== next.answer_column);
  }
  return next;
}
