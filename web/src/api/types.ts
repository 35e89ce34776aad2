// The shapes of /api/v1, by hand from the API's contract.

export type ErrorBody = { code: string; message: string; hint: string | null; details: Record<string, unknown> | null };

export type Session = { password_required: boolean; authenticated: boolean; version: string };

export type MachineLoad = { cpu_share: number; devices: { name: string; share: number; memory_used_bytes: number }[] };
export type Device = {
  name: string;
  label: string;
  kind: "cpu" | "cuda" | "mps" | "vulkan";
  memory_total_bytes: number | null;
  is_default: boolean;
};
export type Machine = {
  version: string;
  platform: string;
  os: string;
  hostname: string;
  workdir: string;
  home_dir: string;
  cpu: { model: string; n_cores: number; instruction_sets: string[] };
  memory: { total_bytes: number; available_bytes: number };
  disk: { path: string; total_bytes: number; free_bytes: number };
  devices: Device[];
  passed_over: { backend: string; reason: string }[];
  load: MachineLoad;
};
/** What the event `machine` brings every two seconds: the parts that move. */
export type MachineTick = Pick<Machine, "load" | "memory" | "disk">;

export type JobState = "running" | "done" | "failed" | "cancelled";
export type Job = {
  id: string;
  kind: string;
  label: string;
  state: JobState;
  done_bytes: number | null;
  total_bytes: number | null;
  share: number | null;
  message: string | null;
  error: string | { message: string; hint?: string | null } | null;
  result: Record<string, unknown> | null;
  started_unix_secs: number;
  finished_unix_secs: number | null;
};

export type FileEntry = { name: string; path: string; is_dir: boolean; n_bytes: number | null; modified_unix_secs: number };
export type FileList = { path: string; parent: string | null; entries: FileEntry[] };

export type Upload = { upload_id: string; name: string; n_bytes: number };
export type DataSettings = {
  problem_type: string;
  train_table: string;
  validation_table: string | null;
  validation_size: number;
  layout?: string;
  system_column: string | null;
  prompt_columns: string[];
  answer_column: string | null;
  parent_id_column: string | null;
  id_column: string | null;
  [other: string]: unknown;
};
export type Problem = {
  level: "error" | "warning";
  message: string;
  hint: string | null;
  rows: number[] | null;
  field: string | null;
};
export type ImportColumn = { name: string; kind: string; n_missing: number; n_unique: number | null; examples: string[] };
export type ImportTable = {
  path: string;
  n_rows: number;
  n_bytes: number;
  columns: ImportColumn[];
  rows: (string | null)[][];
};
export type Import = { id: string; suggested_name: string; tables: ImportTable[]; guess: DataSettings; problems: Problem[] };
export type Turn = { role: string; content: string };
export type Conversation = { row: number; turns: Turn[]; note: string | null };
export type CheckedImport = { problems: Problem[]; conversations: Conversation[] };

export type Dataset = {
  id: string;
  name: string;
  problem_type: string;
  settings: DataSettings;
  n_rows: number;
  n_validation_rows: number | null;
  n_bytes: number;
  tables: { path: string; n_rows: number; n_bytes: number }[];
  n_experiments: number;
  created_unix_secs: number;
  source: unknown;
};
export type Rows = { columns: string[]; rows: (string | null)[][]; n_rows: number };
export type Histogram = {
  bins: { from: number; to: number; count: number }[];
  min: number;
  max: number;
  mean: number;
  p50: number;
  p95: number;
};
export type Statistics = {
  n_conversations: number;
  turns: Histogram;
  prompt_words: Histogram;
  answer_words: Histogram;
  conversation_words: Histogram;
  columns: { name: string; n_missing: number; n_unique: number | null; [other: string]: unknown }[];
};

export type Value = string | number | boolean | null | string[];
export type Values = Record<string, Value>;
export type Dependency = { field: string; value: string | null; is_set: boolean };
export type Field = {
  path: string;
  name: string;
  section: string;
  label: string;
  help: string;
  kind: "bool" | "int" | "float" | "text" | "optional_text" | "choice" | "choice_list" | "text_list";
  choices: string[] | null;
  default: Value | undefined;
  limit: { min: number | null; max: number | null; is_min_excluded: boolean; is_max_excluded: boolean } | null;
  slider: { min: number; max: number | null; step: number } | null;
  suggestions: string[];
  grid: { values: (string | number)[]; is_custom_allowed: boolean } | null;
  is_choice_grid: boolean;
  depends_on: Dependency[];
  is_hidden: boolean;
  hidden_for: string[];
  is_built: boolean;
  not_built_note: string | null;
};
export type Section = { name: string; title: string; help: string; fields: Field[] };
export type Schema = { sections: Section[] };
export type Finding = { level: "error" | "warning" | "info"; field: string | null; message: string; hint: string | null };
export type CheckedConfig = { findings: Finding[]; yaml: string; changed: string[] };
export type ParsedConfig = { values: Values; warnings: string[] };

export type Token = { id: number; text: string; trained: boolean; special: boolean };
export type TokenSample = {
  row: number;
  tokens: Token[];
  n_trained: number;
  n_prompt_cut: number;
  n_answer_cut: number;
  warnings: string[];
};
export type TokenPreview = {
  samples: TokenSample[];
  statistics: {
    n_conversations: number;
    n_samples: number;
    n_tokens: number;
    n_trained_tokens: number;
    n_cut: number;
    n_cut_tokens: number;
    max_length: number;
    shortest: number;
    median: number;
    percentile_90: number;
    percentile_99: number;
    longest: number;
    histogram: { from: number; to: number; n_samples: number; n_cut: number }[];
  };
  packing: {
    packing: string;
    batch_size: number;
    n_micro_batches: number;
    fewest_tokens: number;
    most_tokens: number;
    n_tokens: number;
    filled: number | null;
  };
  warnings: string[];
};
export type Forecast = {
  device: string;
  memory: { parts: { name: string; n_bytes: number }[]; total_bytes: number; free_bytes: number | null; fits: boolean | null };
  time: { steps: number; secs: number | null; secs_per_step: number | null; based_on: string };
  suggestions: { text: string; changes: Values }[];
};
export type Model = {
  name: string;
  path: string;
  n_bytes: number;
  architecture: string;
  n_parameters: number | null;
  dtype: string;
  is_demo: boolean;
};

export type Status = "queued" | "starting" | "running" | "stopping" | "finished" | "stopped" | "failed" | "killed";
export type Failure = { kind: string; message: string; hint: string | null };
export type Experiment = {
  id: string;
  name: string;
  dataset_id: string | null;
  dataset_name: string | null;
  problem_type: string;
  model: string;
  status: Status;
  progress: number;
  step: number;
  n_steps: number;
  eta_secs: number | null;
  run_secs: number | null;
  metric_name: string;
  metric: number | null;
  train_loss: number | null;
  validation_loss: number | null;
  device: string;
  failure: Failure | null;
  queue_position: number | null;
  created_unix_secs: number;
  started_unix_secs: number | null;
  finished_unix_secs: number | null;
  peak_memory_bytes: number | null;
  tokens_per_sec: number | null;
  can: { stop: boolean; kill: boolean; resume: boolean; chat: boolean; export: boolean; delete: boolean };
};
export type Artifact = { name: string; label: string; n_bytes: number | null; path: string };
export type ExperimentDetail = Experiment & {
  values: Values;
  changed: string[];
  dataset_settings: DataSettings | null;
  record: Record<string, unknown> | null;
  yaml: string;
  command: string;
  artifacts: Artifact[];
  folder: string;
};
export type Point = [step: number, value: number];
export type NamedSeries = { name: string; points: Point[] };
export type SeriesAnswer = { series: NamedSeries[]; n_lines: number; next_id: number | string };

export type ChatModel = {
  id: string;
  label: string;
  experiment_id: string | null;
  base: string | null;
  is_loaded: boolean;
  context: number | null;
};
export type ChatMessage = { role: "system" | "user" | "assistant"; content: string };
export type ChatDone = {
  finish: string;
  n_prompt_tokens: number;
  n_new_tokens: number;
  tokens_per_sec: number | null;
  secs: number;
};
export type ChatDefaults = { settings: Values; system: string | null; suggestions: string[] };

export type SettingsAnswer = { values: Record<string, unknown>; where: string };
export type Secret = { name: string; label: string; is_set: boolean; store: string };
export type StorageItem = {
  what: string;
  label: string;
  path: string;
  n_bytes: number;
  n_files: number;
  can_clean: boolean;
};
