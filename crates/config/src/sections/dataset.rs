//! `dataset`: tables, columns and how their cells become text.

use super::{
    CLASSIFICATION, CLASSIFICATION_AND_REGRESSION, DPO, NOT_CLASSIFICATION, NOT_DPO, PRETRAINING, REGRESSION,
    WITHOUT_CONVERSATIONS, WITHOUT_MARKERS,
};
use crate::choices::{
    DataPart, LeadingZeros, OnBadRow, ProblemType, TableLayout, TextEncoding, TextFormat, Truncate, Turns,
    ValidationStrategy,
};
use crate::declare::fields;
use crate::field::{facets, is, is_not};
use crate::field_value::{Columns, OptionalText};

const ONLY_LANGUAGE: &[ProblemType] = &[
    ProblemType::ContinuedPretraining,
    ProblemType::CausalClassificationModeling,
    ProblemType::CausalRegressionModeling,
    ProblemType::SequenceToSequenceModeling,
    ProblemType::DpoModeling,
];

fields! {
    /// Which rows are learned from and how they become conversations and text.
    pub struct Dataset in "dataset" {
        /// Replaces the names other assistants give themselves (Open Assistant, ChatGPT, LAION, OpenAI and their
        /// common spellings) in prompts and answers, so that the model introduces itself with `chatbot_name` and
        /// `chatbot_author`. Upper and lower case are told apart.
        personalize: bool = false => facets().not_for(WITHOUT_CONVERSATIONS);
        /// Name the model gives itself when `personalize` is on.
        chatbot_name: String = "h2oGPT".to_owned()
            => facets().when(&[is("personalize", "true")]).not_for(WITHOUT_CONVERSATIONS);
        /// Author the model names when `personalize` is on.
        chatbot_author: String = "H2O.ai".to_owned()
            => facets().when(&[is("personalize", "true")]).not_for(WITHOUT_CONVERSATIONS);
        /// Path of the training table: csv, tsv, json, jsonl (ndjson), parquet (pq) or arrow (feather); upper case endings are
        /// fine, too, and so are texts compressed with gzip or Zstandard (`rows.jsonl.gz`, `rows.csv.zst`). A folder, or a
        /// pattern such as `parts/*.parquet`, reads many files as one table. Text files (txt, md) are tables with a column
        /// `text`.
        train_dataframe: String = "/path/to/train.csv".to_owned();
        /// Where validation rows come from: `automatic` splits a share off the training table, `custom` reads
        /// `validation_dataframe`.
        validation_strategy: ValidationStrategy = ValidationStrategy::Automatic;
        /// Path of the validation table, same file types as the training table.
        validation_dataframe: OptionalText = OptionalText::from("")
            => facets().when(&[is("validation_strategy", "custom")]);
        /// Share of the training table that becomes validation data, rounded up to whole rows. With a parent
        /// column whole groups of connected conversations are moved, so that no conversation is on both sides.
        /// The split depends on the rows only, never on the seed.
        validation_size: f64 = 0.01
            => facets().between(0.0, 1.0).slider(0.01, 0.95, 0.01).when(&[is("validation_strategy", "automatic")]);
        /// Share of the data to use, for quick trials. Below 1 rows (with a parent column: whole conversations)
        /// are drawn, always the same ones; at least 10 rows are kept.
        data_sample: f64 = 1.0 => facets().above_to(0.0, 1.0).slider(0.01, 1.0, 0.01);
        /// Parts of the data that `data_sample` applies to.
        data_sample_choice: Vec<DataPart> = vec![DataPart::Train, DataPart::Validation]
            => facets().when(&[is_not("data_sample", "1.0")]);
        /// Column with a system text; `None` for no system texts. Only the text of the first round of a
        /// conversation is used. A validation table may lack the column.
        system_column: OptionalText = OptionalText::from("system")
            => facets().suggest(&["system"]).not_for(WITHOUT_CONVERSATIONS)
                .default_for(&[(WITHOUT_CONVERSATIONS, "None")]);
        /// Columns of the prompt, in order. Several are joined with `prompt_column_separator`. An empty list
        /// means no prompt.
        prompt_column: Vec<String> = vec!["instruction".to_owned(), "input".to_owned()]
            => facets().suggest(&["instruction", "prompt", "question", "input", "user"])
                .not_for(PRETRAINING).default_for(&[(PRETRAINING, "")]);
        /// Text between the parts of a prompt made of several columns. Escapes such as `\n` are decoded.
        prompt_column_separator: String = r"\n\n".to_owned() => facets().not_for(PRETRAINING);
        /// Column of the answer the model learns to give; for preferences, of the better answer, or with the loss
        /// KTOLoss of the answer that is judged. Classification: the
        /// column with the label (a text, a whole number, true or false), one column with several labels in a cell, or several columns
        /// of 0 and 1, one for each label. Regression: one
        /// or more columns of numbers. Continued pre-training: the column of the texts; where table files are text files,
        /// it is `text`.
        answer_column: Columns = Columns::from("output")
            => facets().suggest(&["answer", "output", "response", "assistant", "chosen"])
                .default_for(&[
                    (CLASSIFICATION, "label"),
                    (REGRESSION, "label"),
                    (DPO, "chosen_response"),
                    (PRETRAINING, "text"),
                ]);
        /// Column of the answer that the model learns to prefer less. The loss KTOLoss, which has single answers, does
        /// not read it.
        rejected_answer_column: String = "rejected_response".to_owned()
            => facets().suggest(&["rejected_answer", "rejected_response", "rejected"]).not_for(NOT_DPO);
        /// Column of the prompt that the rejected answer belongs to; `None` when it is the same prompt.
        rejected_prompt_column: OptionalText = OptionalText::none()
            => facets()
                .suggest(&["rejected_input", "rejected_prompt", "rejected_instruction", "rejected_question"])
                .not_for(NOT_DPO);
        /// Column that says whether an answer is a good one, for the loss KTOLoss: `true`, `1`, `good` or `yes`, and
        /// `false`, `0`, `bad` or `no`, in upper or lower case.
        judgement_column: String = "label".to_owned()
            => facets().suggest(&["label", "desirable", "is_good", "thumbs_up"]).not_for(NOT_DPO);
        /// Number of classes; with several labels at once the number of labels. 0 and 1: found in the training table. One column of
        /// two classes with the loss BinaryCrossEntropyLoss keeps 1. A number that the data contradict is an error.
        num_classes: usize = 1 => facets().at_least(0.0).slider(0.0, 100.0, 1.0).not_for(NOT_CLASSIFICATION);
        /// Names of the classes, in the order of the model's logits. Empty: the labels of the training table, in sorted order.
        /// Given, a label that is none of them is an error; whole numbers from 0 on are the places of the names.
        class_names: Vec<String> = Vec::new() => facets().not_for(NOT_CLASSIFICATION);
        /// What stands between the labels of a cell, where one column holds several and the loss is BinaryCrossEntropyLoss. `auto`
        /// finds `|`, `;` or `,` and reports it, and reads lists such as `["a", "b"]` without one; `none` takes texts whole. Escapes such as
        /// `\t` are decoded.
        label_separator: String = "auto".to_owned() => facets().not_for(NOT_CLASSIFICATION);
        /// Column that names the row before this one in a conversation; `None` when every row stands alone. A
        /// missing parent starts a conversation. A table without this column has no conversations.
        parent_id_column: OptionalText = OptionalText::from("parent_id")
            => facets().suggest(&["parent", "parent_id"]).not_for(WITHOUT_CONVERSATIONS)
                .default_for(&[(WITHOUT_CONVERSATIONS, "None")]);
        /// Column with the row's own id, which `parent_id_column` refers to. Ids must be unique.
        id_column: OptionalText = OptionalText::from("id")
            => facets().suggest(&["id", "ID", "index"]).when(&[is_not("parent_id_column", "None")]);
        /// Marker text before a system text. Escapes such as `\n` are decoded.
        text_system_start: String = "<|system|>".to_owned()
            => facets().when(&[is_not("system_column", "None")]).not_for(WITHOUT_CONVERSATIONS)
                .default_for(&[(WITHOUT_MARKERS, "")]);
        /// Marker text before a prompt. Escapes such as `\n` are decoded.
        text_prompt_start: String = "<|prompt|>".to_owned()
            => facets().not_for(PRETRAINING).default_for(&[(WITHOUT_MARKERS, "")]);
        /// Marker text between prompt and answer. Escapes such as `\n` are decoded.
        text_answer_separator: String = "<|answer|>".to_owned()
            => facets().not_for(PRETRAINING).default_for(&[(WITHOUT_MARKERS, "")]);
        /// Puts the end-of-text token after a system text.
        add_eos_token_to_system: bool = true
            => facets().when(&[is_not("system_column", "None")]).not_for(WITHOUT_CONVERSATIONS)
                .default_for(&[(WITHOUT_CONVERSATIONS, "false")]);
        /// Puts the end-of-text token after a prompt, before the answer marker.
        add_eos_token_to_prompt: bool = true
            => facets().not_for(PRETRAINING).default_for(&[(WITHOUT_CONVERSATIONS, "false")]);
        /// Puts the end-of-text token after an answer, which teaches the model when to stop. Continued pre-training: after
        /// each text, which tells it from the next one.
        add_eos_token_to_answer: bool = true => facets().not_for(CLASSIFICATION_AND_REGRESSION)
            .default_for(&[(CLASSIFICATION_AND_REGRESSION, "false")]);
        /// Off: every row is a sample, with all its ancestors in front. On: only rows that nobody answers are
        /// samples, so that each conversation is seen once, in full length.
        limit_chained_samples: bool = false
            => facets().when(&[is_not("parent_id_column", "None")])
                .not_for(&[
                    ProblemType::ContinuedPretraining,
                    ProblemType::SequenceToSequenceModeling,
                    ProblemType::DpoModeling,
                ])
                .default_for(&[(DPO, "true")]);
        /// Leaves prompts, system texts and markers out of the loss, so that only answers are learned. Off, every
        /// token is learned.
        mask_prompt_labels: bool = true => facets().default_for(&[(PRETRAINING, "false")]).not_for(&[
            ProblemType::ContinuedPretraining,
            ProblemType::CausalClassificationModeling,
            ProblemType::CausalRegressionModeling,
            ProblemType::SequenceToSequenceModeling,
            ProblemType::DpoModeling,
        ]);
        /// Learns only the last answer of a conversation; earlier ones are context. Sequence to sequence modeling never
        /// learns more.
        only_last_answer: bool = false
            => facets().when(&[is_not("parent_id_column", "None"), is("mask_prompt_labels", "true")])
                .not_for(WITHOUT_MARKERS);
        /// How rows become conversations. `columns`: the column settings above. `alpaca`: instruction, optional
        /// input, output. `sharegpt`: a `conversations` list of from and value. `messages`: a `messages` list of
        /// role and content. `tree`: nested replies, or one message a row with message_id, parent_id, role and
        /// text. `auto` takes the column settings when the table has all prompt columns and the answer column, and
        /// otherwise decides by the columns there are; the choice is reported.
        layout: TableLayout = TableLayout::Auto => facets().not_for(WITHOUT_CONVERSATIONS);
        /// How a conversation becomes text: `markers` puts the marker texts above around each part,
        /// `chat_template` uses the template that comes with the tokenizer.
        text_format: TextFormat = TextFormat::Markers => facets().not_for(WITHOUT_CONVERSATIONS);
        /// Which answers of a conversation are learned. `auto`: all of them, each in the very context in which it will be
        /// generated; as one sample where the chat template allows it, and as one sample an answer where it writes earlier
        /// answers differently (thoughts are dropped, for instance). `last`: the last one. `all`: each as a sample of its own.
        turns: Turns = Turns::Auto
            => facets().when(&[is("mask_prompt_labels", "true")]).not_for(ONLY_LANGUAGE);
        /// What becomes of samples longer than `tokenizer.max_length`. `prompt_left`: the oldest rounds go first, then the
        /// beginning of the last prompt's text, then the end of the answer. `response_right`: the end of the answer goes
        /// first. Both keep the beginning-of-text token, the system text and the markers of the roles, leave at least half of the
        /// room to either side, and give both answers of a preference the same prompt. `drop`: the sample is left out.
        /// `left`: the whole keeps its last tokens, as in H2O LLM Studio.
        truncate: Truncate = Truncate::PromptLeft => facets().not_for(PRETRAINING);
        /// What becomes of a row that cannot be learned from: a role that nobody knows, an image, a conversation that the chat
        /// template refuses. `skip` leaves it out and names it, `error` ends the run. Without any good row the run ends in
        /// either case.
        on_bad_row: OnBadRow = OnBadRow::Skip => facets().not_for(WITHOUT_CONVERSATIONS);
        /// Reads only this many rows from the start of each table, before splitting and sampling. 0 reads all.
        max_rows: usize = 0 => facets().at_least(0.0).spin(0.0, 1.0);
        /// Character encoding of CSV, TSV, JSON and text files. `auto` reads UTF-8, and UTF-16 where the file begins with a
        /// byte order mark; a file in any other encoding is an error that names the line and a likely encoding.
        encoding: TextEncoding = TextEncoding::Auto;
        /// What `007` in a CSV or TSV file is. `keep`: the digits 007, as zip codes and ids need them; numbers to predict and
        /// classes read them as 7. `drop`: the number 7, as pandas and H2O LLM Studio read it.
        leading_zeros: LeadingZeros = LeadingZeros::Keep;
    }
}
