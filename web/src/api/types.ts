// The shapes of /api/v1 under the names that the app uses. `schema.ts` is made from the server's description (`npm run api`);
// by hand is only what the description does not have: what other programs of Tunesmith print, and what is true of the app alone.
import type * as schema from "./schema";

export type {
  Artifact,
  ChatDefaults,
  ChatDone,
  ChatModel,
  ConfusionCounts,
  Conversation,
  DataSettings,
  Dataset,
  Device,
  ExperimentDetail,
  Field,
  FileEntry,
  FileList,
  Histogram,
  Import,
  ImportTable,
  Job,
  JobState,
  MachineLoad,
  Model,
  NumberHistogram,
  Prediction,
  PredictionCell,
  Predictions,
  Problem,
  Rows,
  Secret,
  Section,
  Session,
  SettingsAnswer,
  SourceListing,
  Statistics,
  StorageItem,
  TargetStatistics,
  Turn,
  Upload,
} from "./schema";

export type ErrorBody = schema.ErrorContent;
export type Machine = schema.MachineInfo;
/** What the event `machine` brings every two seconds: the parts that move. */
export type MachineTick = Pick<Machine, "load" | "memory" | "disk">;
export type ImportColumn = schema.Column;
export type CheckedImport = schema.Checked;
export type ImportSource = schema.Source;

export type Value = schema.FieldValue;
export type Values = Record<string, Value>;
export type Dependency = schema.FieldDependency;
export type Schema = schema.FieldSchema;
export type Finding = schema.ConfigFinding;
export type CheckedConfig = schema.ConfigChecked;
export type ParsedConfig = schema.Parsed;

export type Status = schema.ExperimentStatus;
export type Failure = schema.RunFailure;
export type Experiment = schema.ExperimentSummary;
export type NamedSeries = schema.Series;
export type Point = NamedSeries["points"][number];
export type SeriesAnswer = schema.Curves;

/** The app sends no other roles. */
export type ChatMessage = schema.ChatMessage & { role: "system" | "user" | "assistant" };

// What `tunesmith data preview --json` and `tunesmith forecast --json` print: the server hands it on as it is.
export type Token = { id: number; text: string; trained: boolean; special: boolean };
export type TokenSample = {
  row: number;
  tokens: Token[];
  n_trained: number;
  n_prompt_cut: number;
  n_answer_cut: number;
  /** What is predicted from the last token, where no tokens are learned. */
  target?: { text: string; class: number | null } | null;
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
  data: {
    n_train_samples: number;
    n_train_tokens: number;
    n_validation_samples: number;
    n_validation_tokens: number;
    longest_sample: number;
  };
  memory: {
    parts: { name: string; n_bytes: number }[];
    total_bytes: number;
    least_bytes: number;
    free_bytes: number | null;
    fits: boolean | null;
  };
  time: { steps: number; secs: number | null; secs_per_step: number | null; based_on: string };
  suggestions: { text: string; changes: Values }[];
};
