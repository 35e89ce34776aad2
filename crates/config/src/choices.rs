//! The closed sets of values some fields take.

/// An enum whose variants have fixed spellings in YAML.
pub(crate) trait Choice: Copy + Sized + 'static {
    const NAMES: &'static [&'static str];
    fn from_name(name: &str) -> Option<Self>;
    fn name(self) -> &'static str;
    /// What a spelling that no longer exists becomes.
    fn legacy(name: &str) -> Option<Self>;
}

macro_rules! choices {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident $(legacy $legacy:path;)? {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal ),+ $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$variant_meta])* $variant ),+ }

        impl $name {
            /// Every value, in the order a form offers them.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];

            /// The spelling in YAML.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text ),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Choice for $name {
            const NAMES: &'static [&'static str] = &[$( $text ),+];
            fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == name)
            }
            fn name(self) -> &'static str {
                self.as_str()
            }
            fn legacy(name: &str) -> Option<Self> {
                choices!(@legacy name $($legacy)?)
            }
        }
    )+};
    (@legacy $name:ident) => {{ let _ = $name; None }};
    (@legacy $name:ident $legacy:path) => { $legacy($name) };
}

choices! {
    /// What is learned: `problem_type` in YAML.
    pub enum ProblemType {
        /// Continue a text: chat, instructions.
        CausalLanguageModeling = "text_causal_language_modeling",
        /// Go on reading: plain texts, of which every token is learned.
        ContinuedPretraining = "text_continued_pretraining",
        /// Put a text into classes.
        CausalClassificationModeling = "text_causal_classification_modeling",
        /// Predict numbers from a text.
        CausalRegressionModeling = "text_causal_regression_modeling",
        /// Encoder-decoder models.
        SequenceToSequenceModeling = "text_sequence_to_sequence_modeling",
        /// Learn from pairs of a better and a worse answer, or from good and bad answers.
        DpoModeling = "text_dpo_modeling",
    }

    /// How the validation rows are found.
    pub enum ValidationStrategy {
        /// A share of the training table.
        Automatic = "automatic",
        /// A table of their own.
        Custom = "custom",
    }

    /// Part of the data a setting applies to.
    pub enum DataPart {
        /// Rows the weights learn from.
        Train = "Train",
        /// Rows the model is measured on.
        Validation = "Validation",
    }

    /// How the rows of a table become conversations.
    pub enum TableLayout {
        /// Decide by the columns of the table.
        Auto = "auto",
        /// One row is one round; the column settings name its parts; parent ids chain rows.
        Columns = "columns",
        /// `instruction`, optional `input`, `output`.
        Alpaca = "alpaca",
        /// `conversations`: a list of `{from, value}`.
        Sharegpt = "sharegpt",
        /// `messages`: a list of `{role, content}`.
        Messages = "messages",
        /// Trees of messages: nested `replies`, or one message a row with id, parent id and role.
        Tree = "tree",
    }

    /// How a file of characters stores them.
    pub enum TextEncoding {
        /// By the byte order mark; UTF-8 without one.
        Auto = "auto",
        /// UTF-8, with or without a byte order mark.
        Utf8 = "utf-8",
        /// UTF-16 by its byte order mark; little-endian without one.
        Utf16 = "utf-16",
        /// UTF-16, little-endian.
        Utf16Le = "utf-16le",
        /// UTF-16, big-endian.
        Utf16Be = "utf-16be",
        /// ISO 8859-1: every byte is the character of that number.
        Latin1 = "latin-1",
        /// Western European, Windows: what Excel calls ANSI.
        Windows1252 = "windows-1252",
        /// Central European, Windows.
        Windows1250 = "windows-1250",
        /// Cyrillic, Windows.
        Windows1251 = "windows-1251",
        /// Central European.
        Iso8859_2 = "iso-8859-2",
        /// Western European with the euro sign.
        Iso8859_15 = "iso-8859-15",
        /// Russian, Unix.
        Koi8R = "koi8-r",
        /// Western European, classic Mac OS.
        MacRoman = "mac-roman",
        /// Simplified Chinese; GBK and GB 2312 are parts of it.
        Gb18030 = "gb18030",
        /// Traditional Chinese.
        Big5 = "big5",
        /// Japanese, Windows.
        ShiftJis = "shift_jis",
        /// Japanese, Unix.
        EucJp = "euc-jp",
        /// Korean.
        EucKr = "euc-kr",
    }

    /// What `007` in a CSV or TSV file is.
    pub enum LeadingZeros {
        /// These three digits.
        Keep = "keep",
        /// The number 7.
        Drop = "drop",
    }

    /// How rounds become one text.
    pub enum TextFormat {
        /// The marker texts of the dataset section around each part.
        Markers = "markers",
        /// The chat template that comes with the tokenizer.
        ChatTemplate = "chat_template",
    }

    /// Which answers of a conversation are learned, and as how many samples.
    pub enum Turns {
        /// All of them: as one sample where the chat template writes earlier answers as it wrote them when they were given,
        /// otherwise as one sample each.
        Auto = "auto",
        /// The last one.
        Last = "last",
        /// All of them, each as a sample of its own.
        All = "all",
    }

    /// What becomes of a sample that is longer than `tokenizer.max_length`.
    pub enum Truncate {
        /// The oldest rounds go first, then the beginning of the last prompt's text, then the end of the answer.
        PromptLeft = "prompt_left",
        /// The end of the answer goes first, then the oldest rounds and the beginning of the last prompt's text.
        ResponseRight = "response_right",
        /// It is left out.
        Drop = "drop",
        /// H2O LLM Studio's way: the whole keeps its last tokens, whatever part they belong to.
        Left = "left",
    }

    /// What becomes of a row that cannot be learned from.
    pub enum OnBadRow {
        /// It is left out and named.
        Skip = "skip",
        /// It ends the run.
        Error = "error",
    }

    /// Number format the frozen weights are kept in.
    pub enum BackboneDtype {
        /// 32-bit floats.
        Float32 = "float32",
        /// 16-bit floats with the exponent range of 32-bit ones.
        Bfloat16 = "bfloat16",
        /// IEEE half precision.
        Float16 = "float16",
        /// 8-bit integers with a scale for 32 neighbours (GGUF's Q8_0).
        Int8 = "int8",
        /// 4-bit integers with a scale and a minimum for 32 neighbours (GGUF's Q4_1).
        Int4 = "int4",
        /// 4-bit codes for values that are distributed normally, with a scale for 64 neighbours (bitsandbytes' NF4).
        Nf4 = "nf4",
    }

    /// What the optimizer makes small.
    pub enum LossFunction {
        /// Mean over all trained tokens of a step.
        TokenAveragedCrossEntropy = "TokenAveragedCrossEntropy",
        /// Mean over the samples of a step of each sample's token mean.
        SampleAveragedCrossEntropy = "SampleAveragedCrossEntropy",
        /// Classification: several exclusive classes.
        CrossEntropyLoss = "CrossEntropyLoss",
        /// Classification: yes or no for each label.
        BinaryCrossEntropyLoss = "BinaryCrossEntropyLoss",
        /// Regression: squared error.
        MseLoss = "MSELoss",
        /// Regression: absolute error.
        MaeLoss = "MAELoss",
        /// Direct preference optimization.
        DpoLoss = "DPOLoss",
        /// Preference pairs, hinge.
        DpoHingeLoss = "DPOHingeLoss",
        /// Preference pairs, identity preference optimization.
        DpoIpoLoss = "DPOIPOLoss",
        /// Kahneman-Tversky optimization on pairs.
        KtoPairLoss = "KTOPairLoss",
        /// Contrastive preference optimization.
        CpoLoss = "CPOLoss",
        /// Simple preference optimization.
        SimPoLoss = "SimPOLoss",
        /// Odds ratio preference optimization.
        OrpoLoss = "ORPOLoss",
        /// Kahneman-Tversky optimization on answers that are good or bad each for itself.
        KtoLoss = "KTOLoss",
    }

    /// Rule that turns gradients into weight changes.
    pub enum Optimizer {
        /// Adadelta.
        Adadelta = "Adadelta",
        /// Adam with L2 decay added to the gradient.
        Adam = "Adam",
        /// Adam with decoupled weight decay.
        AdamW = "AdamW",
        /// AdamW with 8-bit moments.
        AdamW8bit = "AdamW8bit",
        /// RMSprop.
        RmsProp = "RMSprop",
        /// Stochastic gradient descent with Nesterov momentum.
        Sgd = "SGD",
    }

    /// Shape of the learning rate over the run, after warm-up.
    pub enum Schedule {
        /// Stays at its value.
        Constant = "Constant",
        /// Falls along half a cosine.
        Cosine = "Cosine",
        /// Falls along a line.
        Linear = "Linear",
        /// Falls along half a cosine, several times.
        CosineWithRestarts = "CosineWithRestarts",
        /// Falls along a power of a line.
        Polynomial = "Polynomial",
        /// Falls with the root of the steps.
        InverseSqrt = "InverseSqrt",
        /// Stays, and falls along half a cosine at the end.
        Wsd = "WSD",
    }

    /// Implementation of attention.
    pub enum AttentionImplementation {
        /// The one that fits.
        Auto = "auto",
        /// Plain.
        Eager = "eager",
        /// Flash attention 2.
        FlashAttention2 = "flash_attention_2",
        /// Scaled dot product attention.
        Sdpa = "sdpa",
    }

    /// Which weights are kept.
    pub enum SaveCheckpoint {
        /// Those at the end of the run.
        Last = "last",
        /// Those with the best validation metric.
        Best = "best",
        /// Those at each evaluation.
        EachEvaluationEpoch = "each_evaluation_epoch",
        /// None.
        Disable = "disable",
    }

    /// How samples fill a micro-batch.
    pub enum Packing {
        /// `batch_size` samples, end to end.
        Samples = "samples",
        /// `batch_size` rows of `max_length` tokens, each filled with whole samples.
        Rows = "rows",
        /// All samples end to end, cut every `max_length` tokens.
        Wrapped = "wrapped",
    }

    /// What the matrices of adapters start with.
    pub enum LoraInit {
        /// Random numbers and zeros.
        Default = "default",
        /// The principal components of the weights.
        Pissa = "pissa",
    }

    /// What a score head reads: classification and regression.
    pub enum ScoreHead {
        /// The output of the last block at the last token, as transformers' sequence classifiers do.
        Hidden = "hidden",
        /// The scores of all tokens of the vocabulary at the last token, as H2O LLM Studio does.
        Logits = "logits",
    }

    /// Number the validation is judged by.
    pub enum Metric legacy legacy_metric; {
        /// BLEU of generated against expected answers.
        Bleu = "BLEU",
        /// A judge model grades generated answers.
        Gpt = "GPT",
        /// Exponential of the mean loss.
        Perplexity = "Perplexity",
        /// Longest common subsequence of generated and expected answers.
        RougeL = "ROUGE-L",
        /// Share of generated answers that are the expected ones.
        ExactMatch = "ExactMatch",
        /// Share of generated answers that end in the expected number.
        FinalNumber = "FinalNumber",
        /// Classification: area under the curve.
        Auc = "AUC",
        /// Classification: share of right answers.
        Accuracy = "Accuracy",
        /// Classification: logarithmic loss.
        LogLoss = "LogLoss",
        /// Classification: mean over the classes of the harmonic mean of precision and recall.
        F1Macro = "F1-macro",
        /// Classification: the same over all decisions together.
        F1Micro = "F1-micro",
        /// Regression: mean squared error.
        Mse = "MSE",
        /// Regression: mean absolute error.
        Mae = "MAE",
        /// Regression: share of the variance that is explained.
        R2 = "R2",
    }

    /// What an answer counts that the judge model did not grade.
    pub enum JudgeFailures {
        /// Nothing: the mean is over the others.
        LeftOut = "left_out",
        /// 0, as in H2O LLM Studio.
        Zero = "zero",
    }

    /// Number format of activations under mixed precision.
    pub enum MixedPrecisionDtype {
        /// bfloat16.
        Bfloat16 = "bfloat16",
        /// IEEE half precision.
        Float16 = "float16",
    }

    /// DeepSpeed's partitioning of the optimizer and the weights.
    pub enum DeepspeedMethod {
        /// Optimizer state and gradients are split.
        Zero2 = "ZeRO2",
        /// The weights are split, too.
        Zero3 = "ZeRO3",
    }

    /// Horizontal axis of logged curves.
    pub enum LogStepSize {
        /// Steps.
        Absolute = "absolute",
        /// Share of the run.
        Relative = "relative",
    }

    /// Service that receives the run's numbers.
    pub enum Logger {
        /// No service.
        None = "None",
        /// neptune.ai.
        Neptune = "Neptune",
        /// Weights & Biases.
        WeightsAndBiases = "W&B",
        /// A tracking server of MLflow.
        Mlflow = "MLflow",
        /// Event files of TensorBoard.
        TensorBoard = "TensorBoard",
    }
}

/// Metric names came and went; files that use one of them fall back to BLEU, as they always did.
fn legacy_metric(_name: &str) -> Option<Metric> {
    Some(Metric::Bleu)
}

impl BackboneDtype {
    /// Whether values have 4 bits, and scales besides.
    pub fn is_4_bit(self) -> bool {
        matches!(self, Self::Int4 | Self::Nf4)
    }
}
