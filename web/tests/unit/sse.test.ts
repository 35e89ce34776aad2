import { afterEach, describe, expect, it, vi } from "vitest";
import { EventStream, MessageParser, type Message } from "../../src/api/sse";

function parse(pieces: string[]): Message[] {
  const got: Message[] = [];
  const parser = new MessageParser((message) => got.push(message));
  pieces.forEach((piece) => parser.push(piece));
  return got;
}

describe("MessageParser", () => {
  const text = 'id: 7\nevent: step\ndata: {"a":1}\n\n: ping\n\ndata: one\ndata: two\n\n';
  const want = [
    { event: "step", data: '{"a":1}', id: "7" },
    { event: "message", data: "one\ntwo", id: "7" },
  ];

  it("gives the same messages however the stream is cut", () => {
    expect(parse([text])).toEqual(want);
    expect(parse([...text])).toEqual(want);
    for (let i = 1; i < text.length; i++) expect(parse([text.slice(0, i), text.slice(i)])).toEqual(want);
  });

  it("takes line ends of Windows, cut anywhere", () => {
    const windows = text.replaceAll("\n", "\r\n");
    expect(parse([windows])).toEqual(want);
    for (let i = 1; i < windows.length; i++) expect(parse([windows.slice(0, i), windows.slice(i)])).toEqual(want);
  });

  it("keeps what is not complete for itself", () => {
    expect(parse(["event: step\ndata: 1\n"])).toEqual([]);
  });
});

function body(text: string): Response {
  return new Response(text, { status: 200, headers: { "Content-Type": "text/event-stream" } });
}
const never = () => new Promise<Response>(() => {});

describe("EventStream", () => {
  let stream: EventStream | null = null;
  afterEach(() => stream?.close());

  it("goes on after the last id when the connection is lost", async () => {
    const asked: [string, string | null][] = [];
    const answers = [() => Promise.resolve(body("id: 3\ndata: a\n\n")), () => Promise.reject(new TypeError("refused")), () => Promise.resolve(body("id: 5\ndata: b\n\n")), never];
    const fetcher = vi.fn((url: string, init: RequestInit) => {
      asked.push([url, new Headers(init.headers).get("Last-Event-ID")]);
      return (answers.shift() ?? never)();
    });
    const got: string[] = [];
    const connected: boolean[] = [];
    stream = new EventStream({ url: "/x", onMessage: (m) => got.push(m.data), onConnected: (on) => connected.push(on), fetch: fetcher as unknown as typeof fetch, delay: () => 0 });
    await vi.waitFor(() => expect(asked.length).toBe(4));
    expect(got).toEqual(["a", "b"]);
    expect(asked).toEqual([["/x", null], ["/x?after=3", "3"], ["/x?after=3", "3"], ["/x?after=5", "5"]]);
    expect(connected).toEqual([true, false, false, true, false]);
  });

  it("does not try again what was refused", async () => {
    const fetcher = vi.fn(() => Promise.resolve(new Response("", { status: 404 })));
    const refused = vi.fn();
    stream = new EventStream({ url: "/x", onMessage: () => {}, onRefused: refused, fetch: fetcher as unknown as typeof fetch, delay: () => 0 });
    await vi.waitFor(() => expect(refused).toHaveBeenCalledWith(404));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(fetcher).toHaveBeenCalledTimes(1);
  });

  it("gives its connection back while the page is kept for going back", async () => {
    const signals: AbortSignal[] = [];
    const fetcher = vi.fn((_url: string, init: RequestInit) => {
      signals.push(init.signal as AbortSignal);
      return new Promise<Response>((_resolve, reject) => init.signal?.addEventListener("abort", () => reject(new Error("aborted"))));
    });
    stream = new EventStream({ url: "/x", onMessage: () => {}, fetch: fetcher as unknown as typeof fetch, delay: () => 0 });
    dispatchEvent(new Event("pagehide"));
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(signals[0]?.aborted).toBe(true);
    expect(fetcher).toHaveBeenCalledTimes(1);
    dispatchEvent(new Event("pageshow"));
    expect(fetcher).toHaveBeenCalledTimes(2);
  });
});
