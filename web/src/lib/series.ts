// Points of charts: events become points, live ones are merged with stored ones, noisy ones are smoothed.
import { api } from "../api/client";
import type { NamedSeries, Point, SeriesAnswer } from "../api/types";

export type SeriesMap = Record<string, Point[]>;

type EventLine = {
  event: string;
  step?: number;
  loss?: number | null;
  learning_rate?: number | null;
  differential_learning_rate?: number | null;
  gradient_norm?: number | null;
  perplexity?: number | null;
  metric_value?: number | null;
  timing?: { tokens_per_sec?: number | null; peak_memory_bytes?: number | null };
};

export function toMap(series: NamedSeries[]): SeriesMap {
  return Object.fromEntries(series.map(({ name, points }) => [name, points]));
}

/** All points of one curve of a run; what the charts hold is thinned when a run is long. */
export async function wholeSeries(id: string, name: string): Promise<Point[]> {
  const { series } = await api.get<SeriesAnswer>(`/experiments/${id}/series?max_points=${Number.MAX_SAFE_INTEGER}`);
  return toMap(series)[name] ?? [];
}

/** Adds a point in order; the same step again (a resumed run, a repeated message) replaces the old value. */
export function add(points: Point[], point: Point): void {
  const last = points.at(-1);
  if (!last || point[0] > last[0]) {
    points.push(point);
    return;
  }
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((points[middle]?.[0] ?? 0) < point[0]) low = middle + 1;
    else high = middle;
  }
  if (points[low]?.[0] === point[0]) points[low] = point;
  else points.splice(low, 0, point);
}

/** Puts what a line of a run's events says into the series; true when something was added. */
export function addEvent(map: SeriesMap, line: EventLine): boolean {
  const step = line.step;
  if (step === undefined) return false;
  const put = (name: string, value: number | null | undefined) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return;
    add((map[name] ??= []), [step, value]);
  };
  if (line.event === "step") {
    put("train_loss", line.loss);
    put("learning_rate", line.learning_rate);
    put("differential_learning_rate", line.differential_learning_rate);
    put("gradient_norm", line.gradient_norm);
    put("tokens_per_sec", line.timing?.tokens_per_sec);
    put("memory_bytes", line.timing?.peak_memory_bytes);
    return true;
  }
  if (line.event === "evaluation") {
    put("validation_loss", line.loss);
    put("validation_perplexity", line.perplexity);
    put("validation_metric", line.metric_value);
    return true;
  }
  return false;
}

/** Exponential moving average without the pull of a zero start (as Adam corrects its moments). */
export function smooth(values: (number | null)[], weight: number): (number | null)[] {
  if (weight <= 0) return values;
  let mean = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = mean * weight + value * (1 - weight);
    share = share * weight + (1 - weight);
    return mean / share;
  });
}

/** One table of all steps for lines that have different ones, as uPlot wants it; gaps are null. */
export function align(lines: Point[][]): [number[], ...(number | null)[][]] {
  const steps = [...new Set(lines.flatMap((points) => points.map(([step]) => step)))].sort((a, b) => a - b);
  const index = new Map(steps.map((step, i) => [step, i]));
  const columns = lines.map((points) => {
    const column: (number | null)[] = new Array<number | null>(steps.length).fill(null);
    for (const [step, value] of points) column[index.get(step) ?? 0] = value;
    return column;
  });
  return [steps, ...columns];
}

export function toCsv(names: string[], lines: Point[][]): string {
  const [steps, ...columns] = align(lines);
  const quote = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = steps.map((step, i) => [step, ...columns.map((column) => column[i] ?? "")].join(","));
  return [["step", ...names.map(quote)].join(","), ...rows].join("\n") + "\n";
}
