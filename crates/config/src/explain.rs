//! One field in words, for the command line.

use crate::choices::ProblemType;
use crate::experiment::find_field;
use crate::field::{FieldSpec, Kind};
use crate::support;

/// What a field means, its type, default and limits, and when it matters. `None` if there is no such field.
pub fn explain(name: &str) -> Option<String> {
    let spec = find_field(name)?;
    let mut out = format!("{}\n\n{}\n\n", spec.path(), spec.help());
    let mut line = |title: &str, text: String| out.push_str(&format!("{title:<12}{text}\n"));
    line("Takes", spec.allowed());
    if spec.path() != "experiment_name" {
        line("Default", (spec.default)().to_string());
    }
    for (kinds, text) in spec.facets.defaults_for {
        let kinds: Vec<&str> = kinds.iter().copied().map(ProblemType::as_str).collect();
        let text = if text.is_empty() { "''" } else { text };
        line("", format!("{text} for {}", kinds.join(", ")));
    }
    if let Some(range) = recommended(spec) {
        line("Usual", range);
    }
    if !spec.facets.suggestions.is_empty() {
        line("Suggested", spec.facets.suggestions.join(", "));
    }
    if !spec.facets.depends_on.is_empty() {
        let conditions: Vec<String> = spec.facets.depends_on.iter().map(|d| d.describe()).collect();
        line("Matters if", conditions.join(" and "));
    }
    for (kind, names) in spec.facets.choices_for {
        line("", format!("{kind}: {}", names.join(", ")));
    }
    if !spec.facets.hidden_for.is_empty() {
        let kinds: Vec<&str> = spec.problem_types().map(ProblemType::as_str).collect();
        line("Only for", kinds.join(", "));
    }
    if let Some(note) = support::not_built_note(&spec.path()) {
        line("Here", note.to_owned());
    }
    Some(out)
}

/// The slider's range in words.
fn recommended(spec: &FieldSpec) -> Option<String> {
    let slider = spec.facets.slider?;
    let text = |value: f64| match spec.kind {
        Kind::Int => format!("{value}"),
        _ => crate::yaml_writer::float_text(value),
    };
    let max = slider.max?;
    Some(format!("{} to {}", text(slider.min), text(max)))
}
