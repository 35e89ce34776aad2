// One conversation with one model: streamed answers that can be stopped, asked again, and edited.
import { ApiError, send } from "../api/client";
import { readMessages } from "../api/sse";
import type { ChatDone, ChatMessage, Values } from "../api/types";

export type Entry = { role: "user" | "assistant"; content: string; done?: ChatDone | null; error?: { message: string; hint: string | null } | null };

export class Conversation {
  model = $state("");
  entries = $state<Entry[]>([]);
  busy = $state(false);
  loading = $state<{ message: string; share: number | null } | null>(null);
  private controller: AbortController | null = null;

  stop(): void {
    this.controller?.abort();
  }

  clear(): void {
    this.stop();
    this.entries = [];
  }

  /** Asks for an answer to what stands there; the last entry is the user's. */
  async answer(system: string, settings: Values): Promise<void> {
    if (this.busy || !this.model) return;
    const controller = new AbortController();
    this.controller = controller;
    this.busy = true;
    const messages: ChatMessage[] = this.entries.filter((e) => !e.error && e.content).map(({ role, content }) => ({ role, content }));
    if (system.trim()) messages.unshift({ role: "system", content: system });
    this.entries.push({ role: "assistant", content: "", done: null, error: null });
    const entry = this.entries.at(-1);
    if (!entry) return;
    try {
      const response = await send("/chat", { method: "POST", body: JSON.stringify({ model: this.model, messages, settings }), signal: controller.signal });
      await readMessages(response, ({ event, data }) => {
        const value = JSON.parse(data) as Record<string, unknown>;
        if (event === "loading") this.loading = { message: String(value.message ?? "Loading the model"), share: (value.share as number | null) ?? null };
        else if (event === "text") {
          this.loading = null;
          entry.content += String(value.text ?? "");
        } else if (event === "done") entry.done = value as unknown as ChatDone;
        else if (event === "error") entry.error = { message: String(value.message), hint: (value.hint as string | null) ?? null };
      });
      if (!entry.done && !entry.error && !controller.signal.aborted) entry.error = { message: "The answer broke off.", hint: "The studio may be restarting. Ask again in a moment." };
    } catch (error) {
      if (controller.signal.aborted) entry.done = { finish: "cancelled", n_prompt_tokens: 0, n_new_tokens: 0, tokens_per_sec: null, secs: 0 };
      else if (error instanceof ApiError) entry.error = { message: error.message, hint: error.hint };
      else entry.error = { message: "The connection was lost.", hint: "Ask again once the studio answers." };
    }
    this.loading = null;
    this.busy = false;
  }

  async say(text: string, system: string, settings: Values): Promise<void> {
    this.entries.push({ role: "user", content: text });
    await this.answer(system, settings);
  }

  /** Drops the last answer and asks for another one. */
  async again(system: string, settings: Values): Promise<void> {
    if (this.entries.at(-1)?.role === "assistant") this.entries.pop();
    await this.answer(system, settings);
  }

  /** Says something else at this place; what followed is dropped. */
  async edit(index: number, text: string, system: string, settings: Values): Promise<void> {
    this.entries = this.entries.slice(0, index);
    await this.say(text, system, settings);
  }
}
