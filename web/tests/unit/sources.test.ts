import { expect, it } from "vitest";
import { above, lastPart, nameOnPage, placeOf } from "../../src/lib/sources";

it("takes pasted addresses apart", () => {
  expect(placeOf(" s3://bucket/a/rows.csv ")).toEqual({ kind: "s3", bucket: "bucket", key: "a/rows.csv" });
  expect(placeOf("gs://bucket")).toEqual({ kind: "google", bucket: "bucket", key: "" });
  expect(placeOf("AZ://container/a/")).toEqual({ kind: "azure", bucket: "container", key: "a/" });
  expect(placeOf("bucket")).toBeNull();
  expect(placeOf("ftp://host/rows.csv")).toBeNull();
  expect(nameOnPage("https://www.kaggle.com/datasets/owner/name?select=a.csv", "kaggle.com")).toBe("owner/name");
  expect(nameOnPage("https://huggingface.co/datasets/owner/name/", "huggingface.co")).toBe("owner/name");
  expect(nameOnPage(" owner/name ", "kaggle.com")).toBe("owner/name");
});

it("goes up and down keys", () => {
  expect([above("a/b/"), above("a/"), above("a/rows.csv"), above("")]).toEqual(["a/", "", "a/", null]);
  expect([lastPart("a/b/"), lastPart("a/rows.csv"), lastPart("rows.csv")]).toEqual(["b/", "rows.csv", "rows.csv"]);
});
