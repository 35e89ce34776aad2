import { describe, expect, it } from "vitest";
import type { DataSettings } from "../../src/api/types";
import { CLASSIFICATION, forProblemType, hasLayouts, LANGUAGE, PREFERENCES, REGRESSION, rolesOf, SEQUENCES } from "../../src/lib/roles";

const settings = (more: Partial<DataSettings>): DataSettings => ({
  problem_type: LANGUAGE, train_table: "rows.csv", validation_table: null, validation_size: 0.1, layout: "auto", system_column: "system", prompt_columns: ["text"],
  answer_column: "answer", label_columns: [], num_classes: null, rejected_answer_column: null, rejected_prompt_column: null, parent_id_column: "parent", id_column: "id", ...more,
});

describe("roles of columns", () => {
  it("become labels and a prompt for classes and numbers", () => {
    const columns = ["id", "text", "answer", "Label"];
    const classes = forProblemType(settings({}), CLASSIFICATION, columns);
    expect(classes).toMatchObject({ problem_type: CLASSIFICATION, layout: "columns", prompt_columns: ["text"], label_columns: ["Label"], answer_column: null, system_column: null, parent_id_column: null });
    expect(forProblemType(settings({ prompt_columns: [] }), REGRESSION, ["answer", "score"])).toMatchObject({ prompt_columns: ["answer"], label_columns: ["score"] });
    expect(forProblemType(settings({ prompt_columns: ["x"] }), REGRESSION, ["x", "answer"])).toMatchObject({ prompt_columns: ["x"], label_columns: ["answer"] });
    expect(rolesOf(classes)).toEqual([]);
  });

  it("come back for texts", () => {
    const classes = settings({ problem_type: CLASSIFICATION, label_columns: ["label"], answer_column: null, num_classes: 3 });
    expect(forProblemType(classes, LANGUAGE, ["text", "label"])).toMatchObject({ answer_column: "label", label_columns: [], num_classes: null, prompt_columns: ["text"] });
  });

  it("are those of language modeling for an encoder and a decoder", () => {
    const before = settings({ layout: "sharegpt" });
    const sequences = forProblemType(before, SEQUENCES, ["text", "answer"]);
    expect(sequences).toEqual({ ...before, problem_type: SEQUENCES });
    expect(rolesOf(sequences)).toEqual(rolesOf(before));
    expect([LANGUAGE, SEQUENCES, PREFERENCES, CLASSIFICATION].map(hasLayouts)).toEqual([true, true, false, false]);
  });

  it("find chosen and rejected answers", () => {
    const pairs = forProblemType(settings({ prompt_columns: ["prompt", "chosen"] }), PREFERENCES, ["prompt", "chosen", "rejected_prompt", "rejected"]);
    expect(pairs).toMatchObject({ answer_column: "chosen", rejected_answer_column: "rejected", rejected_prompt_column: "rejected_prompt", prompt_columns: ["prompt"] });
    expect(rolesOf(pairs).map(([field]) => field)).toEqual(["answer_column", "rejected_answer_column", "rejected_prompt_column", "system_column", "parent_id_column", "id_column"]);
    expect(forProblemType(pairs, LANGUAGE, [])).toMatchObject({ answer_column: "chosen", rejected_answer_column: null });
  });
});
