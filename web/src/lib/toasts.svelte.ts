// Short notes at the edge of the screen: what went wrong and what to do, or that something is done.
import { ApiError } from "../api/client";

export type Toast = { id: number; level: "error" | "success" | "info"; message: string; hint: string | null };

class Toasts {
  list = $state<Toast[]>([]);
  private next = 1;

  add(level: Toast["level"], message: string, hint: string | null = null): void {
    // The same complaint twice in a row says nothing new.
    if (this.list.some((toast) => toast.message === message && toast.level === level)) return;
    const id = this.next++;
    this.list = [...this.list.slice(-3), { id, level, message, hint }];
    // Errors stay long enough to be read and copied.
    setTimeout(() => this.remove(id), level === "error" ? 15_000 : 4_500);
  }

  remove(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

export const toasts = new Toasts();
export const success = (message: string, hint: string | null = null) => toasts.add("success", message, hint);

/** Shows an error of a request; a cancelled one is no error. */
export function complain(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (error instanceof ApiError) {
    if (error.status !== 401) toasts.add("error", error.message, error.hint);
  } else toasts.add("error", error instanceof Error ? error.message : String(error));
}

/** Runs an action and shows its error; undefined when it failed. */
export async function attempt<T>(action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    complain(error);
    return undefined;
  }
}
