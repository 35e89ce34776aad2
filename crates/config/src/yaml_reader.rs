//! YAML text to [`Node`]s that know their lines.
//!
//! Works on parser events instead of a ready-made value tree, because a value must keep its spelling (see
//! [`crate::node`]) and a key that stands twice must be noticed.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::error::ConfigError;
use crate::node::{Content, Key, Node};

/// Nesting no configuration needs; keeps hostile files from exhausting the stack.
const MAX_DEPTH: usize = 32;
/// Values no configuration has; keeps aliases of aliases from growing without end.
const MAX_VALUES: usize = 100_000;

/// The mapping a configuration file consists of; an empty file is an empty mapping.
pub(crate) fn read_mapping(text: &str, origin: &str) -> Result<Vec<(Key, Node)>, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text), origin, anchors: Vec::new(), n_values: 0 };
    let root = loop {
        let (event, span) = reader.next_event()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(Vec::new()),
            event => break reader.node(event, span, 0)?,
        }
    };
    loop {
        match reader.next_event()? {
            (Event::StreamEnd, _) => break,
            (Event::DocumentEnd, _) => {}
            (_, span) => {
                return Err(reader.shape(span, "one YAML document is expected, here a second one starts"));
            }
        }
    }
    let is_null = root.is_null();
    match root.content {
        Content::Map(entries) => Ok(entries),
        _ if is_null => Ok(Vec::new()),
        _ => Err(ConfigError::Shape {
            origin: origin.to_owned(),
            line: root.line,
            reason: "expected sections with fields, such as `training:` and below it `    epochs: 1`"
                .to_owned(),
        }),
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    origin: &'a str,
    /// Values that an alias may repeat, by the parser's anchor number.
    anchors: Vec<(usize, Node)>,
    n_values: usize,
}

impl<'a> Reader<'a> {
    fn next_event(&mut self) -> Result<(Event<'a>, Span), ConfigError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The value that starts with `event`.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, ConfigError> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(self.shape(span, "nested too deeply"));
        }
        self.count(1, span)?;
        let (anchor, content) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                // `!!str 5` is text, as if quoted.
                let is_str = tag.is_some_and(|tag| tag.suffix == "str");
                let is_plain = style == ScalarStyle::Plain && !is_str;
                (anchor, Content::Scalar { text: text.into_owned(), is_plain })
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next_event()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Content::List(items))
            }
            Event::MappingStart(anchor, _) => (anchor, Content::Map(self.entries(depth)?)),
            Event::Alias(id) => {
                let Some((_, node)) = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id) else {
                    return Err(self.shape(span, "alias of a value that is not known yet"));
                };
                let node = Node { line, content: node.content.clone() };
                self.count(size(&node), span)?;
                return Ok(node);
            }
            other => return Err(self.shape(span, &format!("unexpected {other:?}"))),
        };
        let node = Node { line, content };
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, ConfigError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next_event()?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => Key { text: text.into_owned(), line: span.start.line() },
                _ => return Err(self.shape(span, "a name is expected before the colon")),
            };
            if let Some((first, _)) = entries.iter().find(|(other, _)| other.text == key.text) {
                let reason =
                    format!("{} stands here for the second time (first in line {})", key.text, first.line);
                return Err(self.shape(span, &reason));
            }
            let (event, span) = self.next_event()?;
            let mut value = self.node(event, span, depth + 1)?;
            if value.is_null() {
                // An absent value has no place of its own.
                value.line = key.line;
            }
            entries.push((key, value));
        }
    }

    fn count(&mut self, n_values: usize, span: Span) -> Result<(), ConfigError> {
        self.n_values += n_values;
        if self.n_values > MAX_VALUES {
            return Err(self.shape(span, "too many values"));
        }
        Ok(())
    }

    fn shape(&self, span: Span, reason: &str) -> ConfigError {
        let line = span.start.line();
        ConfigError::Shape { origin: self.origin.to_owned(), line, reason: reason.to_owned() }
    }

    fn syntax(&self, error: &ScanError) -> ConfigError {
        ConfigError::Syntax {
            origin: self.origin.to_owned(),
            line: error.marker().line(),
            column: error.marker().col() + 1,
            reason: error.info().to_owned(),
        }
    }
}

/// Number of values in a node, itself included.
fn size(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 1,
        Content::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Map(entries) => 1 + entries.iter().map(|(_, value)| size(value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(Key, Node)> {
        read_mapping(text, "test").unwrap()
    }

    #[test]
    fn keeps_spelling_quotes_and_lines() {
        let entries = read("a: 1e-05\nb: '0'\nc:\n- x\n- \"y\"\nd:\n");
        let (key, node) = &entries[0];
        assert_eq!((key.text.as_str(), key.line, node.as_plain()), ("a", 1, Some("1e-05")));
        assert_eq!(entries[1].1.content, Content::Scalar { text: "0".to_owned(), is_plain: false });
        let Content::List(items) = &entries[2].1.content else { panic!("c is a list") };
        assert_eq!((items[0].line, items[1].line), (4, 5));
        assert!(entries[3].1.is_null());
        assert_eq!(entries[3].1.line, 6);
    }

    #[test]
    fn aliases_repeat_values() {
        let entries = read("a: &id001\n- x\nb: *id001\n");
        assert_eq!(entries[0].1.content, entries[1].1.content);
    }

    #[test]
    fn empty_texts_are_empty_mappings() {
        for text in ["", "\n# nothing\n", "---\n", "\u{feff}", "~"] {
            assert!(read(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_configuration() {
        let message = |text: &str| read_mapping(text, "cfg.yaml").unwrap_err().to_string();
        assert!(
            message("a: 1\na: 2\n")
                .contains("cfg.yaml:2: a stands here for the second time (first in line 1)")
        );
        assert!(message("- a\n").contains("expected sections"));
        assert!(message("a: [1\nb: 2").starts_with("cfg.yaml:"));
        assert!(message("a: 1\n---\nb: 2\n").contains("second"));
        assert!(message(&"[".repeat(100_000)).starts_with("cfg.yaml:1"));
        assert!(message("? [a]\n: 1\n").contains("a name is expected"));
    }

    #[test]
    fn growing_aliases_are_stopped() {
        let mut text = "a0: &b0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..10 {
            let refs = vec![format!("*b{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &b{i} [{refs}]\n"));
        }
        assert!(read_mapping(&text, "cfg.yaml").unwrap_err().to_string().contains("too many values"));
    }
}
