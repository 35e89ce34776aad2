// Simulated training runs: what a run has done follows from when it started and how fast the mock runs.

const SECS_PER_STEP = 0.55;

/** A number in 0..1 that is always the same for the same arguments. */
export function noise(seed, i) {
  const x = Math.sin(seed * 127.1 + i * 311.7) * 43758.5453;
  return x - Math.floor(x);
}

function loss(e, step) {
  const t = step / e.n_steps;
  const base = e.floor + (e.from - e.floor) * Math.exp(-t * e.speed);
  return base * (1 + 0.22 * (noise(e.seed, step) - 0.5) * (0.35 + Math.exp(-t * 3)));
}
export const validation = (e, step) => e.floor * 1.08 + (e.from - e.floor) * Math.exp((-step / e.n_steps) * e.speed) * 0.95;
const rate = (e, step) => {
  const warm = Math.max(1, Math.round(e.n_steps * 0.05));
  const top = Number(e.values["training.learning_rate"] ?? 1e-4);
  return step < warm ? (top * step) / warm : top * 0.5 * (1 + Math.cos((Math.PI * (step - warm)) / (e.n_steps - warm)));
};
const tokensPerSec = (e, step) => e.tokens_per_sec * (1 + 0.08 * (noise(e.seed + 5, step) - 0.5));
const evaluationEvery = (e) => Math.max(1, Math.floor(e.n_steps / 8));
/** The step of the newest evaluation, 0 before the first. */
export const lastEvaluation = (e, step) => (step === e.n_steps ? step : Math.floor(step / evaluationEvery(e)) * evaluationEvery(e));

export function summaryOf(e, state, now, speed) {
  let step = 0;
  let status = e.state;
  if (status === "live") {
    const secs = (now - e.started) * speed;
    step = Math.min(e.n_steps, (e.resumed_from ?? 0) + Math.max(0, Math.floor((secs - 1.5) / SECS_PER_STEP)));
    status = secs < 1.5 ? "starting" : step >= e.n_steps ? "finished" : "running";
    if (status === "finished") e.ended ??= now;
  } else if (status === "finished") step = e.n_steps;
  else if (status !== "queued") step = e.at_step ?? 0;
  else step = e.resumed_from ?? 0;
  const evaluation = lastEvaluation(e, step);
  const evaluated = evaluation > 0;
  const active = ["running", "starting", "stopping"].includes(status);
  const queue = state.experiments.filter((x) => x.state === "queued").sort((a, b) => a.order - b.order);
  const dataset = state.datasets.find((d) => d.id === e.dataset_id);
  return {
    id: e.id, name: e.name, dataset_id: e.dataset_id, dataset_name: dataset?.name ?? null,
    problem_type: "text_causal_language_modeling", model: e.model, status,
    progress: step / e.n_steps, step, n_steps: e.n_steps,
    eta_secs: status === "running" ? ((e.n_steps - step) * SECS_PER_STEP) / speed : null,
    run_secs: step ? step * (e.real_secs_per_step ?? SECS_PER_STEP) : null,
    metric_name: "Perplexity", higher_is_better: false, metric: evaluated ? Math.exp(validation(e, evaluation)) : null,
    train_loss: step ? loss(e, step) : null, validation_loss: evaluated ? validation(e, evaluation) : null,
    device: "cpu", failure: e.failure ?? null,
    queue_position: status === "queued" ? queue.indexOf(e) + 1 : null,
    created_unix_secs: e.created, started_unix_secs: e.started ?? null,
    finished_unix_secs: active || status === "queued" ? null : (e.ended ?? null),
    peak_memory_bytes: step ? e.peak_memory : null, tokens_per_sec: step ? tokensPerSec(e, step) : null,
    grid_id: e.grid?.id ?? null,
    can: {
      stop: active || status === "queued", kill: active,
      resume: ["stopped", "failed", "killed"].includes(status) && step > 0,
      chat: status === "finished" || (status === "stopped" && step > 0), export: status === "finished", delete: !active,
    },
  };
}

export function seriesOf(e, s) {
  const steps = Array.from({ length: s.step }, (_, i) => i + 1);
  const every = evaluationEvery(e);
  const evaluations = steps.filter((step) => step % every === 0 || step === e.n_steps);
  const series = [
    ["train_loss", steps.map((x) => [x, loss(e, x)])],
    ["learning_rate", steps.map((x) => [x, rate(e, x)])],
    ["gradient_norm", steps.map((x) => [x, 0.3 + loss(e, x) * 0.5 * (0.8 + 0.4 * noise(e.seed + 9, x))])],
    ["tokens_per_sec", steps.map((x) => [x, tokensPerSec(e, x)])],
    ["memory_bytes", steps.map((x) => [x, e.peak_memory * (0.93 + 0.07 * Math.min(1, x / 20))])],
    ["validation_loss", evaluations.map((x) => [x, validation(e, x)])],
    ["validation_perplexity", evaluations.map((x) => [x, Math.exp(validation(e, x))])],
  ];
  return { series: series.map(([name, points]) => ({ name, points })), n_lines: s.step, next_id: String(s.step) };
}

export function eventsOf(e, s, after) {
  const lines = [];
  const every = evaluationEvery(e);
  for (let step = after + 1; step <= s.step; step++) {
    lines.push({
      event: "step", id: step, epoch: 1, step, micro_batch: step, loss: loss(e, step), learning_rate: rate(e, step),
      gradient_norm: 0.3 + loss(e, step) * 0.5,
      timing: { tokens_per_sec: tokensPerSec(e, step), peak_memory_bytes: e.peak_memory, run_secs: step * SECS_PER_STEP },
    });
    if (step % every === 0 || step === e.n_steps)
      lines.push({ event: "evaluation", id: step, epoch: 1, step, loss: validation(e, step), perplexity: Math.exp(validation(e, step)) });
  }
  return lines;
}

export function logOf(e, s) {
  const start = e.started ?? e.created;
  const at = (step) => new Date((start + step * SECS_PER_STEP) * 1000).toISOString().slice(0, 19).replace("T", " ");
  if (s.status === "queued") return "";
  const lines = [
    `${at(0)} INFO  tunesmith 0.1.0 on linux x86_64, device cpu (avx512bf16), 8 threads`,
    `${at(0)} INFO  model ${e.model}: 134,515,008 parameters, 2,442,240 of them trained`,
    `${at(1)} INFO  900 samples, 41,234 tokens, 16,193 of them learned; 60 for validation`,
    `${at(1)} INFO  forecast: 1.3 GB of memory, of which 0.5 GB weights`,
  ];
  for (let step = 5; step <= s.step; step += 5)
    lines.push(`${at(step)} INFO  step ${step}/${e.n_steps}  loss ${loss(e, step).toFixed(4)}  lr ${rate(e, step).toExponential(2)}  ${tokensPerSec(e, step).toFixed(0)} tokens/s`);
  if (e.failure) lines.push(`${at(s.step)} ERROR ${e.failure.message}`);
  if (s.status === "finished") lines.push(`${at(s.step)} INFO  finished: validation perplexity ${s.metric.toFixed(4)}`);
  if (s.status === "stopped") lines.push(`${at(s.step)} WARN  stopped as asked; checkpoint written at step ${s.step}`);
  return lines.join("\n") + "\n";
}
