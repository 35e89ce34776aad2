//! `{% generation %}…{% endgeneration %}`: the tags with which a template marks what the assistant says.
//!
//! The engine does not know them, so they become blocks that are always rendered and write a private character at both
//! ends; the finished text is split at these again. Whitespace control (`{%-`, `-%}`) and the trimming of block tags act
//! as on the tags themselves, because the replacement begins and ends with a block tag, too.

use super::Rendered;

/// Noncharacters of Unicode: no text has them.
const START: char = '\u{FDD0}';
const END: char = '\u{FDD1}';

/// Whether the template marks the assistant's text.
pub(super) fn are_in(source: &str) -> bool {
    replace(source) != source
}

/// The source with the tags replaced by what writes the private characters.
pub(super) fn replace(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        let is_control = |c: char| c == '-' || c == '+';
        let opening = if inner.starts_with(is_control) { &inner[..1] } else { "" };
        let closing = if inner.ends_with(is_control) { &inner[inner.len() - 1..] } else { "" };
        match inner.trim_matches(|c: char| c.is_whitespace() || is_control(c)) {
            "generation" => out.push_str(&format!(
                "{{%{opening} if true %}}{{% if true %}}{{{{ \"{START}\" }}}}{{% endif {closing}%}}"
            )),
            "endgeneration" => out.push_str(&format!(
                "{{%{opening} if true %}}{{{{ \"{END}\" }}}}{{% endif %}}{{% endif {closing}%}}"
            )),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Takes the private characters out of a rendered text and says what stood between them.
pub(super) fn split(rendered: &str) -> Rendered {
    let mut text = String::with_capacity(rendered.len());
    let mut generated = Vec::new();
    let mut start = None;
    for c in rendered.chars() {
        match c {
            START => start = Some(text.len()),
            END => generated.extend(start.take().map(|start| start..text.len())),
            c => text.push(c),
        }
    }
    Rendered { text, generated: Some(generated) }
}
