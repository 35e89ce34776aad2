//! Trees of messages, nested or one message a row: every path to an answer is a conversation.

use serde_json::{Map, Value as Json};

use crate::chains::{Id, chain, has_cycle, link, roots};
use crate::conversation::Conversation;
use crate::error::Result;
use crate::messages::{Message, Role};
use crate::rounds::{Oddities, rounds_of};
use crate::sanity::check_unique_ids;
use crate::table::{Cell, Table};

/// All messages of a table in file order, trees depth first.
pub(crate) struct Trees {
    messages: Vec<Message>,
    parents: Vec<Option<usize>>,
    is_deleted: Vec<bool>,
}

/// Conversations and, for each, the number of its tree.
pub(crate) struct TreeConversations {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) trees: Vec<usize>,
    pub(crate) notes: Vec<String>,
}

/// Columns of a table with one message a row.
pub(crate) struct MessageColumns {
    id: usize,
    parent: usize,
    role: usize,
    text: usize,
    deleted: Option<usize>,
}

impl MessageColumns {
    /// `None` if the table has other columns.
    pub(crate) fn find(table: &Table) -> Option<Self> {
        let any = |names: &[&str]| names.iter().find_map(|name| table.column_idx(name));
        Some(Self {
            id: any(&["message_id", "id"])?,
            parent: any(&["parent_id", "parent"])?,
            role: any(&["role"])?,
            text: any(&["text", "content"])?,
            deleted: any(&["deleted"]),
        })
    }
}

/// The column whose cells are trees: `prompt`, or any other, with `replies` inside.
pub(crate) fn nested_column(table: &Table) -> Option<usize> {
    let is_tree =
        |cell: &Cell| matches!(cell, Cell::Json(Json::Object(node)) if node.contains_key("replies"));
    (0..table.columns.len()).find(|column| is_tree(table.cell(0, *column)))
}

impl Trees {
    /// One tree a row.
    pub(crate) fn nested(table: &Table, column: usize) -> Result<Self> {
        let mut trees = Self { messages: Vec::new(), parents: Vec::new(), is_deleted: Vec::new() };
        for row_idx in 0..table.n_rows() {
            let Cell::Json(Json::Object(root)) = table.cell(row_idx, column) else {
                return Err(
                    table.row_error(row_idx, "expected a tree of messages with text, role and replies")
                );
            };
            trees.push(root, None, Role::User).map_err(|reason| table.row_error(row_idx, reason))?;
        }
        Ok(trees)
    }

    /// One message a row.
    pub(crate) fn flat(table: &Table, columns: &MessageColumns) -> Result<Self> {
        let column = |idx: usize| (0..table.n_rows()).map(move |row_idx| table.cell(row_idx, idx));
        check_unique_ids(table, &column(columns.id).map(Id::of).collect::<Vec<_>>())?;
        let parents = link(column(columns.id), column(columns.parent));
        if has_cycle(&parents) {
            return Err(crate::sanity::chain_error(
                table,
                "some messages are their own ancestors".to_owned(),
            ));
        }
        let mut messages = Vec::with_capacity(table.n_rows());
        for row_idx in 0..table.n_rows() {
            let name = table.cell(row_idx, columns.role).text();
            let role = Role::of(&name).ok_or_else(|| {
                table.row_error(row_idx, format!("the role {name:?} is none of system, user, assistant"))
            })?;
            messages.push(Message::new(role, table.cell(row_idx, columns.text).text()));
        }
        let is_deleted = match columns.deleted {
            Some(deleted) => column(deleted).map(|cell| *cell == Cell::Bool(true)).collect(),
            None => vec![false; messages.len()],
        };
        Ok(Self { messages, parents, is_deleted })
    }

    /// Adds a message and, after it, all that hang on it. Depth is bounded by the JSON reader.
    fn push(
        &mut self,
        node: &Map<String, Json>,
        parent: Option<usize>,
        expected: Role,
    ) -> std::result::Result<(), String> {
        let role = match node.get("role").map(|role| role.as_str().unwrap_or_default()) {
            Some(name) => Role::of(name)
                .ok_or_else(|| format!("the role {name:?} is none of system, user, assistant"))?,
            // Trees without roles take turns.
            None => expected,
        };
        let Some(text) = node.get("text").or_else(|| node.get("content")).and_then(Json::as_str) else {
            return Err("a message of the tree has no text".to_owned());
        };
        let position = self.messages.len();
        self.messages.push(Message::new(role, text));
        self.parents.push(parent);
        self.is_deleted.push(node.get("deleted") == Some(&Json::Bool(true)));
        let reply_role = if role == Role::Assistant { Role::User } else { Role::Assistant };
        match node.get("replies") {
            None | Some(Json::Null) => Ok(()),
            Some(Json::Array(replies)) => replies.iter().try_for_each(|reply| match reply {
                Json::Object(reply) => self.push(reply, Some(position), reply_role),
                other => Err(format!("expected a message among the replies, found {other}")),
            }),
            Some(other) => Err(format!("expected a list of replies, found {other}")),
        }
    }

    /// The path to every answer, or only to those after which nothing more is answered. Deleted messages and all
    /// that hang on them are left out.
    pub(crate) fn conversations(&self, limit_chained_samples: bool, has_markers: bool) -> TreeConversations {
        let roots = roots(&self.parents);
        let is_answered = self.with_later_answer();
        let mut found = TreeConversations { conversations: Vec::new(), trees: Vec::new(), notes: Vec::new() };
        let mut oddities = Oddities::default();
        let (mut n_deleted, mut n_too_deep) = (0, 0);
        for (position, message) in self.messages.iter().enumerate() {
            let is_end = !(limit_chained_samples && is_answered.get(position).copied().unwrap_or(false));
            if message.role != Role::Assistant || !is_end {
                continue;
            }
            let Some(path) = chain(&self.parents, position) else {
                n_too_deep += 1;
                continue;
            };
            if path.iter().any(|i| self.is_deleted.get(*i).copied().unwrap_or(false)) {
                n_deleted += 1;
                continue;
            }
            let messages: Vec<Message> = path.iter().filter_map(|i| self.messages.get(*i).cloned()).collect();
            if let Some(conversation) = Conversation::new(rounds_of(&messages, position, &mut oddities)) {
                found.conversations.push(conversation);
                found.trees.push(roots.get(position).copied().unwrap_or(position));
            }
        }
        found.notes = oddities.notes(has_markers);
        if n_deleted > 0 {
            found
                .notes
                .push(format!("{n_deleted} answers were left out because a message before them is deleted"));
        }
        if n_too_deep > 0 {
            found
                .notes
                .push(format!("{n_too_deep} answers were left out because over 1000 messages precede them"));
        }
        let n_open = self.n_unanswered();
        if n_open > 0 {
            found.notes.push(format!("{n_open} prompts that nobody answers were left out"));
        }
        found
    }

    /// For each message whether an answer that is not deleted follows further down.
    fn with_later_answer(&self) -> Vec<bool> {
        let mut has_answer = vec![false; self.messages.len()];
        for (position, message) in self.messages.iter().enumerate() {
            if message.role != Role::Assistant || self.is_deleted.get(position).copied().unwrap_or(false) {
                continue;
            }
            let mut current = self.parents.get(position).copied().flatten();
            while let Some(flag) = current.and_then(|i| has_answer.get_mut(i)).filter(|flag| !**flag) {
                *flag = true;
                current = current.and_then(|i| self.parents.get(i).copied().flatten());
            }
        }
        has_answer
    }

    fn n_unanswered(&self) -> usize {
        let mut has_child = vec![false; self.messages.len()];
        for parent in self.parents.iter().flatten() {
            if let Some(flag) = has_child.get_mut(*parent) {
                *flag = true;
            }
        }
        let is_open = |(message, has_child): &(&Message, &bool)| message.role == Role::User && !**has_child;
        self.messages.iter().zip(&has_child).filter(is_open).count()
    }
}
