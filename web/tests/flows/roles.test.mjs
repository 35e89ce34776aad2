// Tables of classes, numbers and preferences through the import, on the mock.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { external, openBrowser, openPage, studio } from "../browser.mjs";

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());
const onMock = { skip: external ? "needs the mock" : false };

async function withImport(name, csv, flow) {
  const server = await studio();
  const { context, page, problems } = await openPage(browser, server.url);
  try {
    await page.goto(`${server.url}/datasets/import`);
    await page.setInputFiles("input[type=file]", { name, mimeType: "text/csv", buffer: Buffer.from(csv) });
    await page.getByRole("heading", { name: "Preview" }).waitFor();
    await flow(page);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
    await server.stop();
  }
}

test("a table of classes is recognized, previewed and imported", onMock, async () => {
  await withImport("topics.csv", "text,label,note\nI cannot log in,0,a\nWhere is my invoice?,1,b\nThe parcel is late,2,c\n", async (page) => {
    assert.equal(await page.locator('[data-field="problem_type"]').inputValue(), "text_causal_classification_modeling");
    assert.equal(await page.locator('[data-label="label"]').getAttribute("aria-pressed"), "true");
    await page.getByText("label: 0", { exact: true }).waitFor();
    await page.getByText("3 labels, as found in the table.").waitFor();
    // Of several columns each says yes or no; one of words does not.
    await page.locator('[data-label="note"]').click();
    await page.locator('[data-problem="error"]').getByText("Rows 1, 2, 3").waitFor();
    assert.ok(await page.getByRole("button", { name: "Import", exact: true }).isDisabled());
    await page.locator('[data-label="note"]').click();
    await page.getByText("label: 0", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Import", exact: true }).click();
    await page.waitForURL(/datasets\/topics/);
    await page.getByRole("button", { name: "Summary" }).click();
    await page.getByText("Learned columns").waitFor();
    await page.getByText("Classification", { exact: true }).waitFor();
  });
});

test("what is learned can be changed, and columns keep their parts", onMock, async () => {
  await withImport("pairs.csv", "prompt,chosen,rejected\nHow do I pay?,By card.,No idea.\n", async (page) => {
    const kind = page.locator('[data-field="problem_type"]');
    assert.equal(await kind.inputValue(), "text_dpo_modeling");
    assert.equal(await page.locator('[data-field="rejected_answer_column"]').inputValue(), "rejected");
    await page.locator(".preview").getByText("Rejected answer").waitFor();
    await kind.selectOption("text_causal_language_modeling");
    await page.locator('[data-field="rejected_answer_column"]').waitFor({ state: "detached" });
    assert.equal(await page.locator('[data-field="answer_column"]').inputValue(), "chosen");
    await kind.selectOption("text_causal_regression_modeling");
    assert.equal(await page.locator('[data-label="chosen"]').getAttribute("aria-pressed"), "true");
    await page.locator('[data-problem="error"]').waitFor();
  });
});
