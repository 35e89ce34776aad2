//! Rows that hold lists of messages, in one column or as prompt and answers: the layouts of OpenAI, ShareGPT, TRL,
//! LLaMA-Factory and of datasets on the hub, each row a whole conversation.

use serde_json::{Map, Value as Json, json};
use tunesmith_config::{Dataset, ExperimentConfig, LossFunction, OnBadRow, ProblemType, TextFormat};

use crate::columns::Purpose;
use crate::conversation::{Conversation, Target};
use crate::error::{Place, Result};
use crate::escapes::unescape;
use crate::labels::judgement;
use crate::messages::{Message, Role, UnusedKeys, message_list, messages_of_list, tools_of};
use crate::rounds::{Oddities, rounds_of, spoken_text, unspoken_content};
use crate::table::{Cell, Table};

/// Which columns make a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DialogueColumns {
    /// What stands before the answer and is not learned: texts of the user, or lists of messages.
    pub(crate) prompts: Vec<usize>,
    /// Pairs of earlier prompts and answers (Alpaca's `history`), which are learned.
    pub(crate) history: Option<usize>,
    /// The answer, or a list of messages that ends with it.
    pub(crate) answer: Option<usize>,
    /// As `answer`, for the one to be preferred less.
    pub(crate) rejected: Option<usize>,
    /// Whether the answer is a good one.
    pub(crate) judgement: Option<usize>,
    pub(crate) system: Option<usize>,
    pub(crate) tools: Option<usize>,
    /// Variables for the chat template.
    pub(crate) variables: Option<usize>,
    /// Texts are dialogues of their own: `Human: … Assistant: …`.
    pub(crate) has_dialogue_texts: bool,
}

/// Conversations of a table and what there is to say about them.
pub(crate) struct Dialogues {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) notes: Vec<String>,
}

impl DialogueColumns {
    /// Columns that are used, for the notes about the others.
    pub(crate) fn used(&self) -> Vec<usize> {
        let one = [
            self.history,
            self.answer,
            self.rejected,
            self.judgement,
            self.system,
            self.tools,
            self.variables,
        ];
        self.prompts.iter().copied().chain(one.into_iter().flatten()).collect()
    }

    /// With the columns that go with any conversation, where the table has them.
    #[must_use]
    pub(crate) fn with_companions(mut self, table: &Table, dataset: &Dataset) -> Self {
        self.system = dataset.system_column.as_deref().and_then(|name| table.column_idx(name));
        self.tools = ["tools", "functions"].iter().find_map(|name| table.column_idx(name));
        self.variables = table.column_idx("chat_template_kwargs");
        self
    }
}

/// Reads every row as a conversation. Rows that are none are left out and named, unless `dataset.on_bad_row` says otherwise
/// or there is no other.
///
/// # Errors
/// [`DataError::Row`](crate::DataError::Row) for a row that is no conversation.
pub(crate) fn read_dialogues(
    table: &Table,
    columns: &DialogueColumns,
    config: &ExperimentConfig,
    purpose: Purpose,
) -> Result<Dialogues> {
    let mut reader = Reader {
        table,
        columns,
        separator: unescape(&config.dataset.prompt_column_separator),
        is_judged: config.training.loss_function == LossFunction::KtoLoss
            && config.problem_type == ProblemType::DpoModeling,
        purpose,
        oddities: Oddities::default(),
        unused: UnusedKeys::default(),
    };
    let mut conversations = Vec::with_capacity(table.n_rows());
    let mut bad = Vec::new();
    for row in 0..table.n_rows() {
        match reader.row(row) {
            Ok(conversation) => conversations.extend(conversation),
            Err(reason) if config.dataset.on_bad_row == OnBadRow::Error || purpose == Purpose::Questions => {
                return Err(table.row_error(row, reason));
            }
            Err(reason) => bad.push((row, reason)),
        }
    }
    if conversations.is_empty()
        && let Some((row, reason)) = bad.first()
    {
        return Err(table.row_error(*row, reason.as_str()));
    }
    let has_markers = config.dataset.text_format == TextFormat::Markers;
    let mut notes = reader.oddities.notes(has_markers);
    notes.extend(reader.unused.notes());
    notes.extend(bad_rows(table, &bad));
    Ok(Dialogues { conversations, notes })
}

/// A sentence that names rows which were left out and why; nothing without any.
pub(crate) fn bad_rows(table: &Table, bad: &[(usize, String)]) -> Option<String> {
    const N_SHOWN: usize = 5;

    let shown: Vec<String> = bad
        .iter()
        .take(N_SHOWN)
        .map(|(row, reason)| match table.place(*row) {
            Place::Line(line) => format!("line {line}: {reason}"),
            Place::Row(row) => format!("row {row}: {reason}"),
        })
        .collect();
    let more = match bad.len().saturating_sub(N_SHOWN) {
        0 => String::new(),
        n => format!("; and {n} more"),
    };
    let n = bad.len();
    let what = if n == 1 { "row was" } else { "rows were" };
    (n > 0).then(|| format!("{n} of {} {what} left out: {}{more}", table.n_rows(), shown.join("; ")))
}

struct Reader<'a> {
    table: &'a Table,
    columns: &'a DialogueColumns,
    separator: String,
    is_judged: bool,
    purpose: Purpose,
    oddities: Oddities,
    unused: UnusedKeys,
}

impl Reader<'_> {
    /// The conversation of a row; none where nothing is answered.
    fn row(&mut self, row: usize) -> std::result::Result<Option<Conversation>, String> {
        let context = self.context(row)?;
        let messages = match self.columns.answer {
            Some(column) => self.continued(&context, row, column)?,
            None => context.clone(),
        };
        let mut messages = self.with_system(messages, row);
        if self.purpose == Purpose::Questions
            && messages.last().is_some_and(|last| last.role != Role::Assistant)
        {
            messages.push(Message::new(Role::Assistant, ""));
        }
        let Some(mut conversation) = Conversation::new(rounds_of(&messages, row, &mut self.oddities)) else {
            return Ok(None);
        };
        if self.purpose != Purpose::Questions {
            self.set_target(&mut conversation, &context, &messages, row)?;
        }
        Ok(Some(conversation.with_variables(self.variables(row)?)))
    }

    /// What stands before the answer.
    fn context(&mut self, row: usize) -> std::result::Result<Vec<Message>, String> {
        let mut context = Vec::new();
        if let Some(column) = self.columns.history {
            for (prompt, answer) in history(self.table.cell(row, column))? {
                context.push(Message::new(Role::User, prompt));
                context.push(Message::new(Role::Assistant, answer));
            }
        }
        let mut texts: Vec<String> = Vec::new();
        for column in &self.columns.prompts {
            let cell = self.table.cell(row, *column);
            match message_list(cell) {
                Some(list) => {
                    let messages = self.messages(*column, &list)?;
                    // An answer in a prompt was given by somebody; what is learned is the answer to it.
                    context
                        .extend(messages.into_iter().map(|message| Message { is_learned: false, ..message }));
                }
                None => texts.extend(Some(self.text(*column, cell)?).filter(|text| !text.is_empty())),
            }
        }
        if !texts.is_empty() {
            context.push(Message::new(Role::User, texts.join(&self.separator)));
        }
        Ok(context)
    }

    /// The context with what an answer's cell says after it.
    fn continued(
        &mut self,
        context: &[Message],
        row: usize,
        column: usize,
    ) -> std::result::Result<Vec<Message>, String> {
        let cell = self.table.cell(row, column);
        let answer = match message_list(cell) {
            Some(list) => self.messages(column, &list)?,
            None => {
                let text = self.text(column, cell)?;
                match self.columns.has_dialogue_texts.then(|| dialogue(&text)).flatten() {
                    Some(messages) => messages,
                    None if cell.is_missing() && self.columns.prompts.is_empty() => {
                        return Err("the list of messages is missing".to_owned());
                    }
                    None if self.columns.prompts.is_empty() && self.columns.history.is_none() => {
                        return Err(
                            "expected a list of messages, found a text that is no such list".to_owned()
                        );
                    }
                    None => vec![Message::new(Role::Assistant, text)],
                }
            }
        };
        let is_same = |(a, b): (&Message, &Message)| a.role == b.role && a.text().trim() == b.text().trim();
        let is_spoken = |message: &&Message| message.role != Role::System;
        let begins_alike = context.len() <= answer.len() && context.iter().zip(&answer).all(is_same);
        let spoken: Vec<&Message> = answer.iter().filter(is_spoken).collect();
        let context_spoken: Vec<&Message> = context.iter().filter(is_spoken).collect();
        let holds_context = context_spoken.len() <= spoken.len()
            && context_spoken.iter().zip(&spoken).all(|(a, b)| is_same((a, b)));
        if begins_alike || holds_context {
            let n_context = context.len();
            let in_context = |idx: usize| begins_alike && idx < n_context;
            return Ok(answer
                .into_iter()
                .enumerate()
                .map(|(idx, message)| match in_context(idx) {
                    true => Message { is_learned: false, ..message },
                    false => message,
                })
                .collect());
        }
        if answer.iter().any(|message| message.role == Role::User) {
            return Err(format!(
                "the messages of the column {} do not go on from the prompt",
                self.column_name(column)
            ));
        }
        Ok(context.iter().cloned().chain(answer).collect())
    }

    /// With the text of the system column in front, unless the messages have one.
    fn with_system(&self, mut messages: Vec<Message>, row: usize) -> Vec<Message> {
        let text = self.columns.system.map(|column| self.table.cell(row, column).text()).unwrap_or_default();
        let has_its_own = messages.first().is_some_and(|first| first.role == Role::System);
        if !text.trim().is_empty() && !has_its_own {
            messages.insert(0, Message::new(Role::System, text));
        }
        messages
    }

    fn set_target(
        &mut self,
        conversation: &mut Conversation,
        context: &[Message],
        messages: &[Message],
        row: usize,
    ) -> std::result::Result<(), String> {
        let target = match (self.columns.rejected, self.columns.judgement) {
            (_, Some(column)) if self.is_judged => {
                let cell = self.table.cell(row, column);
                let is_good = judgement(cell)
                    .ok_or_else(|| format!("{:?} is neither true nor false, good nor bad", cell.text()))?;
                Target::Judged { is_good, mismatched_answer: String::new() }
            }
            (Some(column), _) => {
                let rejected = self.continued(context, row, column)?;
                let rejected = self.with_system(rejected, row);
                self.preference(conversation, messages, &rejected)?
            }
            _ => return Ok(()),
        };
        if let Some(last) = conversation.rounds.last_mut() {
            last.target = target;
        }
        Ok(())
    }

    /// The other answer, which has to stand after the same messages, but for the text of the last prompt.
    fn preference(
        &self,
        conversation: &mut Conversation,
        chosen: &[Message],
        rejected: &[Message],
    ) -> std::result::Result<Target, String> {
        let up_to_answer = |messages: &[Message]| -> Option<Vec<Message>> {
            let last = messages.iter().rposition(|message| message.role == Role::Assistant)?;
            messages.get(..=last).map(<[Message]>::to_vec)
        };
        let (Some(chosen), Some(rejected)) = (up_to_answer(chosen), up_to_answer(rejected)) else {
            return Err("the rejected messages hold no answer".to_owned());
        };
        let (Some((_, chosen)), Some((answer, rejected))) = (chosen.split_last(), rejected.split_last())
        else {
            return Err("the rejected messages hold no answer".to_owned());
        };
        let is_same = |a: &Message, b: &Message| a.role == b.role && a.content == b.content;
        let n_same = chosen.iter().zip(rejected).take_while(|(a, b)| is_same(a, b)).count();
        let rejected_prompt = match (chosen.get(n_same..), rejected.get(n_same..)) {
            (Some([]), Some([])) => None,
            (Some([a]), Some([b])) if a.role == Role::User && b.role == Role::User && b.is_plain() => {
                Some(b.text())
            }
            _ => {
                return Err(
                    "the chosen and the rejected answer do not follow the same conversation".to_owned()
                );
            }
        };
        let has_keys = !answer.keys.is_empty() || !answer.content.is_string();
        if let Some(last) = conversation.rounds.last_mut()
            && (has_keys || last.details.is_some())
        {
            let before = last.messages_before();
            let details = last.details.get_or_insert_with(Box::default);
            details.before = before;
            details.rejected_keys = answer.keys.clone();
            details.rejected_content = unspoken_content(answer);
            if rejected_prompt.is_some() {
                return Err("the chosen and the rejected answer follow different prompts".to_owned());
            }
        }
        Ok(Target::Preference { rejected_prompt, rejected_answer: spoken_text(answer) })
    }

    fn variables(&self, row: usize) -> std::result::Result<Map<String, Json>, String> {
        let mut variables = match self.columns.variables.map(|column| self.table.cell(row, column)) {
            None | Some(Cell::Missing) => Map::new(),
            Some(Cell::Json(Json::Object(variables))) => variables.clone(),
            Some(cell) => serde_json::from_str(&cell.text())
                .map_err(|_| "chat_template_kwargs is no JSON object".to_owned())?,
        };
        variables.retain(|_, value| !value.is_null());
        if let Some(column) = self.columns.tools
            && let Some(tools) = tools_of(self.table.cell(row, column))?
        {
            variables.insert("tools".to_owned(), tools);
        }
        Ok(variables)
    }

    /// A cell as text. A list or an object is none: it would be learned as JSON.
    fn text(&self, column: usize, cell: &Cell) -> std::result::Result<String, String> {
        match cell {
            Cell::Json(value) if value.is_array() || value.is_object() => Err(format!(
                "the column {} holds JSON that is no list of messages: {}",
                self.column_name(column),
                value.to_string().chars().take(60).collect::<String>()
            )),
            cell => Ok(cell.text()),
        }
    }

    /// The messages of a cell; with several columns an error names the one.
    fn messages(&mut self, column: usize, list: &[Json]) -> std::result::Result<Vec<Message>, String> {
        let is_only_one = self.columns.prompts.is_empty() && self.columns.rejected.is_none();
        messages_of_list(list, &mut self.unused).map_err(|reason| match is_only_one {
            true => reason,
            false => format!("{}, {reason}", self.column_name(column)),
        })
    }

    fn column_name(&self, column: usize) -> &str {
        self.table.columns.get(column).map_or("?", String::as_str)
    }
}

/// Earlier rounds as pairs `[prompt, answer]`.
fn history(cell: &Cell) -> std::result::Result<Vec<(String, String)>, String> {
    let parsed = match cell {
        Cell::Missing => return Ok(Vec::new()),
        Cell::Text(text) if text.trim().is_empty() => return Ok(Vec::new()),
        Cell::Text(text) => serde_json::from_str(text).unwrap_or(Json::Null),
        Cell::Json(value) => value.clone(),
        _ => Json::Null,
    };
    let pair = |pair: &Json| match pair.as_array().map(Vec::as_slice) {
        Some([Json::String(prompt), Json::String(answer)]) => Some((prompt.clone(), answer.clone())),
        _ => None,
    };
    let pairs = parsed.as_array().and_then(|pairs| pairs.iter().map(pair).collect::<Option<Vec<_>>>());
    pairs.ok_or_else(|| "the history is no list of pairs of a prompt and an answer".to_owned())
}

/// The messages of a dialogue in one text, whose turns begin with `Human:` and `Assistant:` after an empty line, as in
/// Anthropic's HH; `None` for other texts.
pub(crate) fn dialogue(text: &str) -> Option<Vec<Message>> {
    const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

    let text = format!("\n\n{}", text.trim_start());
    let mut places: Vec<(usize, &str, Role)> = SPEAKERS
        .iter()
        .flat_map(|(mark, role)| text.match_indices(mark).map(move |(at, mark)| (at, mark, *role)))
        .collect();
    places.sort_unstable_by_key(|(at, ..)| *at);
    let is_dialogue = places.first().is_some_and(|(at, _, role)| *at == 0 && *role == Role::User)
        && places.iter().any(|(_, _, role)| *role == Role::Assistant);
    if !is_dialogue {
        return None;
    }
    let ends = places.iter().skip(1).map(|(at, ..)| *at).chain([text.len()]);
    let message = |((at, mark, role), end): (&(usize, &str, Role), usize)| {
        Message::new(*role, text.get(at + mark.len()..end).unwrap_or_default().trim())
    };
    Some(places.iter().zip(ends).map(message).collect())
}

/// Columns with a meaning in conversations. Those that a layout does not use are noted.
const MEANINGFUL_COLUMNS: &[&str] = &[
    "messages",
    "conversations",
    "conversation",
    "system",
    "system_prompt",
    "tools",
    "functions",
    "chat_template_kwargs",
    "history",
    "images",
    "image",
    "videos",
    "audio",
    "audios",
    "reasoning_content",
    "thinking",
    "weight",
];

/// A sentence for each column that is not used although its name or its cells have a meaning in conversations.
pub(crate) fn unused_columns(table: &Table, used: &[usize]) -> Vec<String> {
    let first = |column: usize| {
        (0..table.n_rows()).map(|row| table.cell(row, column)).find(|cell| !cell.is_missing())
    };
    let mut notes = Vec::new();
    for (column, name) in table.columns.iter().enumerate() {
        let Some(cell) = first(column).filter(|_| !used.contains(&column)) else { continue };
        if message_list(cell).is_some_and(|list| !list.is_empty()) {
            notes.push(format!("the column {name} holds lists of messages and is not used"));
        } else if MEANINGFUL_COLUMNS.contains(&name.as_str()) && *cell != Cell::Json(json!([])) {
            notes.push(format!("the column {name} is not used"));
        }
    }
    notes
}

#[cfg(test)]
#[path = "dialogues_tests.rs"]
mod tests;
