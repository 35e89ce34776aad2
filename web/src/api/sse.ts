// Server-sent events over fetch: with reconnecting that survives a server's restart, and usable for POST.

export type Message = { event: string; data: string; id: string | null };

/** Takes pieces of a stream, however they are cut, and gives whole messages. */
export class MessageParser {
  private rest = "";
  private event = "";
  private data: string[] = [];
  private id: string | null = null;

  constructor(private readonly emit: (message: Message) => void) {}

  push(piece: string): void {
    this.rest += piece;
    for (;;) {
      const end = this.rest.search(/\r\n|\n|\r(?!$)/);
      if (end < 0) return;
      const line = this.rest.slice(0, end);
      this.rest = this.rest.slice(end + (this.rest.startsWith("\r\n", end) ? 2 : 1));
      this.line(line);
    }
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length > 0) this.emit({ event: this.event || "message", data: this.data.join("\n"), id: this.id });
      this.event = "";
      this.data = [];
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.event = value;
    else if (name === "data") this.data.push(value);
    else if (name === "id" && !value.includes("\0")) this.id = value;
  }
}

/** Reads a response's body as messages until it ends. */
export async function readMessages(response: Response, emit: (message: Message) => void): Promise<void> {
  if (!response.body) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new MessageParser(emit);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    parser.push(decoder.decode(value, { stream: true }));
  }
}

export type StreamOptions = {
  url: string;
  onMessage: (message: Message) => void;
  /** True once events arrive; false from the moment the stream is lost until it is there again. */
  onConnected?: (connected: boolean) => void;
  /** A status that will not change by trying again, e.g. 401 or 404. */
  onRefused?: (status: number) => void;
  /** The id to go on from. */
  lastId?: string | null;
  fetch?: typeof fetch;
  /** Milliseconds before the n-th attempt, from 0. */
  delay?: (attempt: number) => number;
};

/** Quick at first, then every five seconds; a little random, so that tabs do not knock all at once. */
export function backoff(attempt: number): number {
  return Math.min(5000, 400 * 2 ** attempt) * (0.85 + Math.random() * 0.3);
}

/** A stream that stays: it reconnects after the last id it has seen until it is closed. */
export class EventStream {
  lastId: string | null;
  private controller: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;
  private closed = false;
  private suspended = false;
  private hiddenTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: StreamOptions) {
    this.lastId = options.lastId ?? null;
    // A browser opens six connections to one server, for all tabs together. A tab that nobody looks at, and a page that
    // is only kept for going back, give theirs away and go on where they were.
    document.addEventListener("visibilitychange", this.visibility);
    addEventListener("pagehide", this.suspend);
    addEventListener("pageshow", this.resume);
    void this.connect();
  }

  private readonly visibility = () => {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) this.hiddenTimer = setTimeout(this.suspend, 20_000);
    else this.resume();
  };

  private readonly suspend = () => {
    this.suspended = true;
    clearTimeout(this.timer);
    this.controller?.abort();
  };

  private readonly resume = () => {
    if (!this.suspended || this.closed) return;
    this.suspended = false;
    this.attempt = 0;
    if (!this.controller) void this.connect();
  };

  /** Ends the connection for good. */
  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.hiddenTimer);
    document.removeEventListener("visibilitychange", this.visibility);
    removeEventListener("pagehide", this.suspend);
    removeEventListener("pageshow", this.resume);
    this.controller?.abort();
  }

  private async connect(): Promise<void> {
    const controller = new AbortController();
    this.controller = controller;
    const { url, onMessage, onConnected, onRefused } = this.options;
    const full =
      this.lastId === null ? url : `${url}${url.includes("?") ? "&" : "?"}after=${encodeURIComponent(this.lastId)}`;
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (this.lastId !== null) headers["Last-Event-ID"] = this.lastId;
      const response = await (this.options.fetch ?? fetch)(full, { headers, signal: controller.signal, cache: "no-store" });
      if (!response.ok) {
        if (response.status >= 400 && response.status < 500 && response.status !== 429) {
          this.close();
          onRefused?.(response.status);
          return;
        }
        throw new Error(`status ${response.status}`);
      }
      this.attempt = 0;
      onConnected?.(true);
      await readMessages(response, (message) => {
        if (this.closed) return;
        if (message.id !== null) this.lastId = message.id;
        onMessage(message);
      });
    } catch {
      // Lost or never there: both are answered by trying again.
    }
    this.controller = null;
    if (this.closed || this.suspended) return;
    onConnected?.(false);
    this.timer = setTimeout(() => void this.connect(), (this.options.delay ?? backoff)(this.attempt++));
  }
}
