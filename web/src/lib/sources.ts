// Places of data outside this machine: what a pasted address means.

export type Cloud = "s3" | "azure" | "google";

/** What the form of a bucket holds. */
export interface Place {
  kind: Cloud;
  bucket: string;
  key: string;
}

const SCHEMES: Record<string, Cloud> = { s3: "s3", s3a: "s3", gs: "google", gcs: "google", az: "azure", azure: "azure" };

/** `s3://bucket/key` and the like, as the command line takes them; nothing for a plain name. */
export function placeOf(address: string): Place | null {
  const found = /^([a-z0-9]+):\/\/([^/]+)\/?(.*)$/i.exec(address.trim());
  const kind = SCHEMES[found?.[1]?.toLowerCase() ?? ""];
  return found && kind ? { kind, bucket: found[2] ?? "", key: found[3] ?? "" } : null;
}

/** `owner/name` of what may be the address of its page. */
export function nameOnPage(text: string, host: string): string {
  const start = new RegExp(`^https?://(www\\.)?${host.replaceAll(".", "\\.")}/(datasets/)?`, "i");
  return text.trim().replace(start, "").replace(/[?#].*$/, "").replace(/\/+$/, "");
}

/** The folder above a key; the root has none. */
export function above(key: string): string | null {
  const path = key.replace(/\/+$/, "");
  return path === "" ? null : path.slice(0, path.lastIndexOf("/") + 1);
}

/** The last part of a key, with the slash of a folder. */
export function lastPart(key: string): string {
  return /[^/]*\/?$/.exec(key)?.[0] ?? key;
}
