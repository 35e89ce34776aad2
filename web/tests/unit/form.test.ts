import { describe, expect, it } from "vitest";
import type { Field, Schema, Values } from "../../src/api/types";
import { applies, changedOnly, fieldsOf, gridSize, isSame, isShown, nextName, parseNumber, payload, schemaFor, withoutStrangers } from "../../src/lib/form";
import fixture from "../../mock/fixtures/schema.json";

const schema = fixture as unknown as Schema;
const byPath = new Map(fieldsOf(schema).map((field) => [field.path, field]));
const field = (path: string): Field => {
  const found = byPath.get(path);
  if (!found) throw new Error(`no field ${path}`);
  return found;
};
const on = (path: string, values: Values = {}) => applies(field(path), byPath, values);

describe("dependencies", () => {
  it("follow a switch", () => {
    expect(on("training.lora_r")).toBe(true);
    expect(on("training.lora_r", { "training.lora": false })).toBe(false);
    expect(on("training.freeze_layers")).toBe(false);
    expect(on("training.freeze_layers", { "training.lora": false })).toBe(true);
  });

  it("follow a choice", () => {
    expect(on("dataset.validation_size")).toBe(true);
    expect(on("dataset.validation_size", { "dataset.validation_strategy": "custom" })).toBe(false);
    expect(on("training.min_learning_rate_ratio", { "training.schedule": "Constant" })).toBe(false);
  });

  it("know columns that are not set and lists that are empty", () => {
    expect(on("dataset.id_column", { "dataset.parent_id_column": "None" })).toBe(false);
    expect(on("dataset.id_column", { "dataset.parent_id_column": null })).toBe(false);
    expect(on("dataset.id_column", { "dataset.parent_id_column": "parent" })).toBe(true);
    expect(on("training.differential_learning_rate")).toBe(false);
    expect(on("training.differential_learning_rate", { "training.differential_learning_rate_layers": ["head"] })).toBe(true);
  });

  it("compare numbers as numbers", () => {
    expect(on("dataset.data_sample_choice")).toBe(false);
    expect(on("dataset.data_sample_choice", { "dataset.data_sample": 1 })).toBe(false);
    expect(on("dataset.data_sample_choice", { "dataset.data_sample": 0.5 })).toBe(true);
  });

  it("hold through several levels", () => {
    const path = "environment.deepspeed_allgather_bucket_size";
    expect(on(path)).toBe(false);
    expect(on(path, { "environment.use_deepspeed": true })).toBe(true);
    expect(on(path, { "environment.use_deepspeed": true, "environment.deepspeed_method": "ZeRO3" })).toBe(false);
  });
});

describe("what is shown", () => {
  const view = { all: false, search: "", problemType: "text_causal_language_modeling" };
  const shown = (path: string, values: Values = {}, more = {}) => isShown(field(path), byPath, values, { ...view, ...more });

  it("is little at first, all on request, and always what was changed", () => {
    expect(shown("training.learning_rate")).toBe(true);
    expect(shown("training.weight_decay")).toBe(false);
    expect(shown("training.weight_decay", {}, { all: true })).toBe(true);
    expect(shown("training.weight_decay", { "training.weight_decay": 0.1 })).toBe(true);
  });

  it("can be searched, whatever the level", () => {
    expect(shown("training.weight_decay", {}, { search: "weight decay" })).toBe(true);
    expect(shown("training.weight_decay", {}, { search: "rank" })).toBe(false);
  });

  it("never has hidden fields or those the data set decides", () => {
    expect(shown("architecture.pretrained", {}, { all: true })).toBe(false);
    expect(shown("dataset.train_dataframe", {}, { all: true })).toBe(false);
  });
});

describe("values", () => {
  it("are the same across writings", () => {
    expect(isSame("None", null)).toBe(true);
    expect(isSame([], undefined)).toBe(true);
    expect(isSame(1, 1.0)).toBe(true);
    expect(isSame(0, null)).toBe(false);
    expect(isSame(["a", "b"], ["b", "a"])).toBe(false);
  });

  it("are sent only where they differ from the default", () => {
    expect(changedOnly(schema, { "training.epochs": 1, "training.lora_r": 8 })).toEqual({ "training.lora_r": 8 });
  });

  it("bring the studio's own defaults along, and nothing that the data set decides", () => {
    const own = { "default.training.lora_r": 16, "default.environment.device": "cpu", theme: "dark" };
    const values = { "training.lora_r": 8, "training.epochs": 3, "dataset.prompt_column": ["q"], "dataset.train_dataframe": "/x.csv" };
    expect(payload(schema, values, own)).toEqual({ "training.lora_r": 8, "environment.device": "cpu", "training.epochs": 3 });
  });

  it("are refused out of their limits, with the reason", () => {
    expect(parseNumber(field("training.epochs"), "3")).toEqual({ value: 3 });
    expect(parseNumber(field("training.epochs"), "1.5")).toEqual({ problem: "A whole number is needed here." });
    expect(parseNumber(field("dataset.validation_size"), "0,25")).toEqual({ value: 0.25 });
    expect(parseNumber(field("dataset.validation_size"), "1")).toEqual({ problem: "It has to be below 1." });
    expect(parseNumber(field("training.batch_size"), "0")).toEqual({ problem: "It has to be at least 1." });
    expect(parseNumber(field("training.learning_rate"), "1e-4")).toEqual({ value: 0.0001 });
    expect(parseNumber(field("training.learning_rate"), "")).toEqual({ problem: "A number is needed here." });
  });
});

it("counts the runs of a grid", () => {
  expect(gridSize({})).toBe(1);
  expect(gridSize({ a: [1, 2, 3], b: [true, false] })).toBe(6);
});

it("finds the next free name", () => {
  expect(nextName("demo", [])).toBe("demo");
  expect(nextName("demo", ["demo", "demo.1"])).toBe("demo.2");
  expect(nextName("demo.2", ["demo", "demo.1", "demo.2"])).toBe("demo.3");
});

describe("problem types", () => {
  const classes = schemaFor(schema, "text_causal_classification_modeling");
  const of = (path: string) => fieldsOf(classes).find((f) => f.path === path);

  it("have defaults and choices of their own", () => {
    expect(field("training.loss_function").default).toBe("TokenAveragedCrossEntropy");
    expect(of("training.loss_function")?.default).toBe("BinaryCrossEntropyLoss");
    expect(of("training.loss_function")?.choices).toEqual(["BinaryCrossEntropyLoss", "CrossEntropyLoss"]);
    expect(of("training.schedule")?.choices).toEqual(field("training.schedule").choices);
  });

  it("drop choices of another", () => {
    const values: Values = { "prediction.metric": "Perplexity", "training.schedule": "Linear", "training.epochs": 3 };
    expect(withoutStrangers(classes, values)).toEqual({ "training.schedule": "Linear", "training.epochs": 3 });
    expect(withoutStrangers(schemaFor(schema, "text_causal_language_modeling"), values)).toEqual(values);
  });
});
