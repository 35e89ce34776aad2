// OpenAI's own client for Node against the real program: models, answers whole and streamed, stop texts, usage, errors.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { openBrowser, until } from "../browser.mjs";
import { needsBinary, withStudio } from "../real-studio.mjs";

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser.close());

test("the client of OpenAI talks to an experiment", needsBinary, async () => {
  await withStudio(browser, {}, async ({ studio, call, create }) => {
    const id = await create("talker");
    await until(async () => (await call("GET", `/experiments/${id}`)).status === "finished", "the run does not end");
    const client = new OpenAI({ baseURL: `${studio.url}/v1`, apiKey: "none", maxRetries: 0 });

    const models = (await client.models.list()).data;
    const model = models.find((one) => one.id === "talker");
    assert.ok(model && Math.abs(Date.now() / 1000 - model.created) < 3600, JSON.stringify(models));
    assert.deepEqual(await client.models.retrieve("talker"), model);

    const asked = { model: "talker", messages: [{ role: "user", content: "Where is order 3?" }], temperature: 0, max_tokens: 12 };
    const whole = await client.chat.completions.create(asked);
    const text = whole.choices[0].message.content;
    assert.ok(["stop", "length"].includes(whole.choices[0].finish_reason));
    assert.ok(text.length > 0 && whole.usage.completion_tokens <= 12);
    let streamed = "";
    let usage = null;
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
      streamed += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(streamed, text);
    assert.equal(usage.total_tokens, whole.usage.total_tokens);
    const stop = text.slice(2, 3);
    const cut = await client.chat.completions.create({ ...asked, stop: [stop] });
    assert.ok(!cut.choices[0].message.content.includes(stop));
    assert.equal(cut.choices[0].finish_reason, "stop");

    const plain = await client.completions.create({ model: "talker", prompt: "Where", max_tokens: 4, temperature: 0 });
    assert.ok(plain.usage.completion_tokens <= 4);
    await assert.rejects(client.chat.completions.create({ ...asked, model: "nobody" }), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
    await assert.rejects(client.chat.completions.create({ ...asked, n: 99 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "n");
    await assert.rejects(client.chat.completions.create({ ...asked, messages: [] }), OpenAI.BadRequestError);
  });
});
