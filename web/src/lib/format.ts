// Numbers and times as people read them.

const plain = new Intl.NumberFormat("en");

export function count(n: number): string {
  return plain.format(n);
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** 1536 → "1.5 KB"; powers of 1024, as file managers show them. */
export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let value = n;
  let i = 0;
  while (value >= 1023.95 && i < units.length - 1) {
    value /= 1024;
    i++;
  }
  return `${i === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[i]}`;
}

/** 3725 → "1 h 2 min": the two largest units that matter. */
export function duration(secs: number | null | undefined): string {
  if (secs === null || secs === undefined || !Number.isFinite(secs)) return "–";
  const s = Math.max(0, secs);
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const total = Math.round(s);
  if (total < 3600) {
    const rest = total % 60;
    return `${Math.floor(total / 60)} min${rest ? ` ${rest} s` : ""}`;
  }
  const minutes = Math.round(total / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  const hours = Math.round(total / 3600);
  return `${Math.floor(hours / 24)} d${hours % 24 ? ` ${hours % 24} h` : ""}`;
}

/** How long ago, or the date once it is more than a week. */
export function ago(unixSecs: number | null | undefined, now = Date.now() / 1000): string {
  if (!unixSecs) return "–";
  const d = now - unixSecs;
  if (d < 45) return "just now";
  if (d < 3570) return `${Math.max(1, Math.round(d / 60))} min ago`;
  if (d < 86400 * 0.98) return `${Math.max(1, Math.round(d / 3600))} h ago`;
  if (d < 7 * 86400) return plural(Math.max(1, Math.round(d / 86400)), "day") + " ago";
  return date(unixSecs);
}

export function date(unixSecs: number): string {
  return new Date(unixSecs * 1000).toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric" });
}

export function dateTime(unixSecs: number | null | undefined): string {
  if (!unixSecs) return "–";
  return new Date(unixSecs * 1000).toLocaleString("en", { dateStyle: "medium", timeStyle: "medium" });
}

/** Four significant digits, never 0.1234000001; small ones as 1e-4. */
export function number(n: number | null | undefined, digits = 4): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return "–";
  if (n === 0) return "0";
  const size = Math.abs(n);
  if (size >= 1e6 || size < 1e-3) return n.toExponential(digits > 2 ? 2 : digits).replace(/\.?0*e\+?/, "e");
  if (size >= 1000) return plain.format(Math.round(n));
  return String(Number(n.toPrecision(digits)));
}

/** A loss or metric in a table: always four decimals, so that columns line up. */
export function fixed(n: number | null | undefined, decimals = 4): string {
  return n === null || n === undefined || !Number.isFinite(n) ? "–" : n.toFixed(decimals);
}

export function percent(share: number | null | undefined): string {
  return share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`;
}

/** 134760384 → "135M". */
export function parameters(n: number | null | undefined): string {
  if (!n) return "–";
  if (n >= 1e9) return `${(n / 1e9).toFixed(1).replace(/\.0$/, "")}B`;
  if (n >= 1e6) return `${Math.round(n / 1e6)}M`;
  return count(n);
}

const PROBLEM_TYPES: Record<string, string> = {
  text_causal_language_modeling: "Language modeling",
  text_continued_pretraining: "Continued pre-training",
  text_causal_classification_modeling: "Classification",
  text_causal_regression_modeling: "Regression",
  text_sequence_to_sequence_modeling: "Sequence to sequence",
  text_dpo_modeling: "Preference tuning (DPO)",
};
export function problemType(name: string): string {
  return PROBLEM_TYPES[name] ?? name;
}

/** The last part of a model's name or path: what tells models apart in a narrow column. */
export function shortModel(name: string): string {
  return name.split("/").filter(Boolean).at(-1) ?? name;
}
