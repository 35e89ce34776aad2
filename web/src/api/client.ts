// Requests to the studio's server: JSON in and out, one kind of error, and the header that guards changes.
import type { ErrorBody } from "./types";

const ROOT = "/api/v1";

/** Why a request failed: what the server said, or that it was not reached (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string | null,
    readonly details: Record<string, unknown> | null = null,
  ) {
    super(message);
  }
}

export function apiUrl(path: string): string {
  return ROOT + path;
}

async function errorOf(response: Response): Promise<ApiError> {
  let body: Partial<ErrorBody> = {};
  try {
    body = ((await response.json()) as { error?: ErrorBody }).error ?? {};
  } catch {
    // Not JSON: a proxy's page, perhaps. The status has to do.
  }
  return new ApiError(
    response.status,
    body.code ?? "unknown",
    body.message ?? `The server answered with status ${response.status}.`,
    body.hint ?? null,
    body.details ?? null,
  );
}

let onUnauthorized: () => void = () => {};
/** What to do when a session has ended: show the login page. */
export function setUnauthorizedHandler(handler: () => void): void {
  onUnauthorized = handler;
}

export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const method = init.method ?? "GET";
  const headers = new Headers(init.headers);
  if (method !== "GET") headers.set("X-Tunesmith", "1");
  if (typeof init.body === "string" && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
  let response: Response;
  try {
    response = await fetch(apiUrl(path), { ...init, method, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The studio's server does not answer.", "Is `tunesmith studio` still running?");
  }
  if (!response.ok) {
    const error = await errorOf(response);
    if (error.status === 401 && path !== "/session") onUnauthorized();
    throw error;
  }
  return response;
}

async function json<T>(path: string, init?: RequestInit): Promise<T> {
  const response = await send(path, init);
  const text = await response.text();
  return (text === "" ? null : JSON.parse(text)) as T;
}

function withBody(method: string, body: unknown, signal?: AbortSignal): RequestInit {
  return { method, body: body === undefined ? null : JSON.stringify(body), signal: signal ?? null };
}

export const api = {
  get: <T>(path: string, signal?: AbortSignal) => json<T>(path, { signal: signal ?? null }),
  post: <T>(path: string, body?: unknown, signal?: AbortSignal) => json<T>(path, withBody("POST", body, signal)),
  put: <T>(path: string, body?: unknown) => json<T>(path, withBody("PUT", body)),
  patch: <T>(path: string, body?: unknown) => json<T>(path, withBody("PATCH", body)),
  delete: <T>(path: string) => json<T>(path, { method: "DELETE" }),
};

/** Sends a file as it lies on the disk and tells how far it is. `fetch` cannot tell, so this is XMLHttpRequest. */
export function upload<T>(file: File, onProgress: (share: number) => void, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", apiUrl(`/uploads?name=${encodeURIComponent(file.name)}`));
    request.setRequestHeader("X-Tunesmith", "1");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      let body: unknown = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // Judged by the status below.
      }
      if (request.status >= 200 && request.status < 300) return resolve(body as T);
      const error = (body as { error?: ErrorBody } | null)?.error;
      reject(
        new ApiError(request.status, error?.code ?? "unknown", error?.message ?? "The upload failed.", error?.hint ?? null),
      );
    };
    request.onerror = () =>
      reject(new ApiError(0, "unreachable", "The upload was interrupted.", "Check that the studio is still running."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
