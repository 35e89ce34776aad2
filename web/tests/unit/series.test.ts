import { describe, expect, it } from "vitest";
import type { Point } from "../../src/api/types";
import { add, addEvent, align, smooth, toCsv, type SeriesMap } from "../../src/lib/series";

describe("add", () => {
  it("keeps steps in order, whatever the order of arrival, and each once", () => {
    const want: Point[] = [[1, 10], [2, 20], [3, 30], [5, 50]];
    for (const order of [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]) {
      const points: Point[] = [];
      for (const i of order) add(points, want[i] as Point);
      for (const i of order) add(points, want[i] as Point);
      expect(points).toEqual(want);
    }
  });

  it("takes the newer value of a step", () => {
    const points: Point[] = [[1, 1], [2, 2], [3, 3]];
    add(points, [2, 9]);
    expect(points).toEqual([[1, 1], [2, 9], [3, 3]]);
  });
});

describe("addEvent", () => {
  it("joins stored points and repeated live ones without a gap or a double", () => {
    const map: SeriesMap = { train_loss: [[1, 3], [2, 2.5]] };
    for (const step of [2, 3, 4]) addEvent(map, { event: "step", step, loss: step === 2 ? 2.5 : 2, learning_rate: 1e-4, timing: { tokens_per_sec: 100 } });
    expect(map.train_loss).toEqual([[1, 3], [2, 2.5], [3, 2], [4, 2]]);
    expect(map.tokens_per_sec?.length).toBe(3);
  });

  it("leaves out losses that are not there, and events without points", () => {
    const map: SeriesMap = {};
    addEvent(map, { event: "step", step: 1, loss: null, learning_rate: 1e-4 });
    expect(map.train_loss).toBeUndefined();
    expect(addEvent(map, { event: "checkpoint", step: 1 })).toBe(false);
    addEvent(map, { event: "evaluation", step: 4, loss: 1, perplexity: 2.7 });
    expect(map.validation_perplexity).toEqual([[4, 2.7]]);
  });
});

describe("smooth", () => {
  it("leaves a constant as it is and does nothing at 0", () => {
    for (const value of smooth([2, 2, 2, 2], 0.9)) expect(value).toBeCloseTo(2, 12);
    const values = [1, 5, 3];
    expect(smooth(values, 0)).toBe(values);
  });
  it("keeps gaps and stays between the extremes", () => {
    const out = smooth([1, null, 3], 0.5);
    expect(out[1]).toBeNull();
    expect(out[2]).toBeCloseTo((1 * 0.25 + 3 * 0.5) / 0.75, 12);
  });
});

it("aligns lines of different steps, and writes them as CSV", () => {
  const a: Point[] = [[1, 1], [3, 3]];
  const b: Point[] = [[2, 20], [3, 30]];
  expect(align([a, b])).toEqual([[1, 2, 3], [1, null, 3], [null, 20, 30]]);
  expect(toCsv(["a", 'b,"c"'], [a, b])).toBe('step,a,"b,""c"""\n1,1,\n2,,20\n3,3,30\n');
});
