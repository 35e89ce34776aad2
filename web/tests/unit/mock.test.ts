// The mock stands in for the server in flows and pictures: its answers have the shapes that the server's description tells.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

type Shape = {
  $ref?: string;
  type?: string | string[];
  enum?: unknown[];
  oneOf?: Shape[];
  allOf?: Shape[];
  properties?: Record<string, Shape>;
  required?: string[];
  additionalProperties?: Shape | boolean;
  items?: Shape | boolean;
  prefixItems?: Shape[];
};
const description = JSON.parse(readFileSync("../docs/openapi.json", "utf8"));

function typeOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
}

/** Where `value` is not of the shape; the description uses no more of JSON schema than this. */
function faults(value: unknown, shape: Shape, at: string): string[] {
  if (shape.$ref) return faults(value, description.components.schemas[shape.$ref.split("/").pop() ?? ""], at);
  if (shape.oneOf) {
    const each = shape.oneOf.map((one) => faults(value, one, at));
    return each.some((found) => found.length === 0) ? [] : (each.at(-1) ?? []);
  }
  const found = (shape.allOf ?? []).flatMap((one) => faults(value, one, at));
  const types = [shape.type ?? []].flat().map((name) => (name === "integer" ? "number" : name));
  if (types.length > 0 && !types.includes(typeOf(value))) return [`${at}: ${typeOf(value)} instead of ${types.join(" or ")}`];
  if (shape.enum && !shape.enum.includes(value)) found.push(`${at}: ${JSON.stringify(value)} is none of ${shape.enum.join(", ")}`);
  if (Array.isArray(value)) {
    value.forEach((item, i) => {
      const of = shape.prefixItems?.[i] ?? shape.items;
      if (typeof of === "object") found.push(...faults(item, of, `${at}[${i}]`));
    });
  } else if (typeof value === "object" && value !== null) {
    for (const name of shape.required ?? []) if (!(name in value)) found.push(`${at}.${name} is missing`);
    for (const [name, item] of Object.entries(value)) {
      const of = shape.properties?.[name] ?? shape.additionalProperties;
      if (typeof of === "object") found.push(...faults(item, of, `${at}.${name}`));
    }
  }
  return found;
}

const PORT = 10197;
const ROOT = `http://127.0.0.1:${PORT}/api/v1`;
let mock: ChildProcess;

beforeAll(async () => {
  mock = spawn(process.execPath, ["mock/server.mjs", "--port", String(PORT)], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => mock.stdout?.once("data", resolve));
});
afterAll(() => void mock.kill());

async function ask(method: string, path: string, body?: unknown): Promise<unknown> {
  const headers = { "X-Tunesmith": "1", "Content-Type": "application/json" };
  const response = await fetch(ROOT + path, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
  expect(response.ok, `${method} ${path}: ${response.status}`).toBe(true);
  return response.json();
}

function expectShape(answer: unknown, method: string, path: string) {
  const responses = description.paths[path][method.toLowerCase()].responses;
  const good = Object.keys(responses).find((status) => status.startsWith("2")) ?? "";
  expect(faults(answer, responses[good].content["application/json"].schema, "answer")).toEqual([]);
}

describe("the mock answers as the server does", () => {
  const plain = ["session", "machine", "jobs", "files", "datasets", "schema", "models", "experiments", "chat/models", "settings", "secrets", "storage"];
  it.each(plain)("/%s", async (path) => expectShape(await ask("GET", `/${path}`), "GET", `/${path}`));

  it.each(["", "/rows", "/conversations", "/statistics"])("/datasets/{id}%s", async (rest) => {
    for (const { id } of (await ask("GET", "/datasets")) as { id: string }[])
      expectShape(await ask("GET", `/datasets/${id}${rest}`), "GET", `/datasets/{id}${rest}`);
  });

  it.each(["", "/series"])("/experiments/{id}%s", async (rest) => {
    for (const { id } of (await ask("GET", "/experiments")) as { id: string }[])
      expectShape(await ask("GET", `/experiments/${id}${rest}`), "GET", `/experiments/{id}${rest}`);
  });

  it("/experiments/{id}/predictions", async () => {
    expectShape(await ask("GET", "/experiments/lora-r16/predictions?sort=loss&descending=true&limit=3"), "GET", "/experiments/{id}/predictions");
    expectShape(await ask("GET", "/experiments/lora-r16/predictions/5"), "GET", "/experiments/{id}/predictions/{position}");
  });

  it("/chat/defaults", async () => {
    for (const { id } of (await ask("GET", "/chat/models")) as { id: string }[])
      expectShape(await ask("GET", `/chat/defaults?model=${encodeURIComponent(id)}`), "GET", "/chat/defaults");
  });

  it("/config", async () => {
    expectShape(await ask("POST", "/config/check", { values: {} }), "POST", "/config/check");
    expectShape(await ask("POST", "/config/parse", { yaml: "llm_backbone: gpt2\n" }), "POST", "/config/parse");
  });

  it("/sources/list", async () => {
    for (const key of ["", "chats/"]) expectShape(await ask("POST", "/sources/list", { source: { kind: "s3", bucket: "b", key } }), "POST", "/sources/list");
  });
  it("/imports", async () => {
    const begun = (await ask("POST", "/imports", { source: { kind: "local", path: "/home/ada/rows.csv" } })) as { id: string };
    expectShape(begun, "POST", "/imports");
    let job = begun as { id: string; state?: string; result?: { import_id: string } | null };
    while (job.state === "running") {
      await new Promise((resolve) => setTimeout(resolve, 50));
      job = (await ask("GET", `/jobs/${begun.id}`)) as typeof job;
      expectShape(job, "GET", "/jobs/{id}");
    }
    const id = job.result?.import_id;
    const found = (await ask("GET", `/imports/${id}`)) as { guess: unknown };
    expectShape(found, "GET", "/imports/{id}");
    expectShape(await ask("POST", `/imports/${id}/check`, { settings: found.guess }), "POST", "/imports/{id}/check");
  });
});
