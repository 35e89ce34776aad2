//! The schema as JSON Schema, for editors that complete and check YAML.

use serde_json::{Map, Value as Json, json};

use crate::choices::ProblemType;
use crate::experiment::schema;
use crate::field::{FieldSpec, Kind};
use crate::sections::ExperimentConfig;

/// JSON Schema (draft 2020-12) of an experiment file.
///
/// Ranges are the hard ones; what a form's slider offers stands in `x-slider`, grid search values in `x-grid`,
/// conditions in `x-applies-when`, and `x-hidden` marks fields that forms leave out.
pub fn json_schema() -> Json {
    let mut properties = Map::new();
    for spec in schema().iter().filter(|spec| spec.section.is_empty()) {
        properties.insert(spec.name.to_owned(), property(spec));
    }
    for section in ExperimentConfig::SECTIONS {
        let fields: Map<String, Json> = schema()
            .iter()
            .filter(|spec| spec.section == *section)
            .map(|spec| (spec.name.to_owned(), property(spec)))
            .collect();
        let object = json!({ "type": "object", "properties": fields, "additionalProperties": false });
        properties.insert((*section).to_owned(), object);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tunesmith experiment",
        "type": "object",
        "properties": properties,
        "required": ["problem_type"],
        "additionalProperties": false,
    })
}

fn property(spec: &FieldSpec) -> Json {
    let mut schema = match spec.kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int => json!({ "type": "integer" }),
        Kind::Float => json!({ "type": "number" }),
        Kind::Text | Kind::OptionalText => json!({ "type": "string" }),
        Kind::Choice(names) => json!({ "type": "string", "enum": names }),
        // One text is read as a list of one.
        Kind::TextList => json!({ "type": ["array", "string"], "items": { "type": "string" } }),
        Kind::ChoiceList(names) => json!({ "type": "array", "items": { "type": "string", "enum": names } }),
    };
    let Some(entries) = schema.as_object_mut() else { return schema };
    let mut add = |name: &str, value: Json| {
        entries.insert(name.to_owned(), value);
    };
    add("title", json!(spec.label()));
    add("description", json!(spec.help()));
    let default = json!((spec.default)());
    if spec.path() != "experiment_name" {
        add("default", default);
    }
    if let Some(limit) = spec.facets.limit {
        add(if limit.is_min_excluded { "exclusiveMinimum" } else { "minimum" }, number(spec.kind, limit.min));
        if let Some(max) = limit.max {
            add(if limit.is_max_excluded { "exclusiveMaximum" } else { "maximum" }, number(spec.kind, max));
        }
    }
    if !spec.facets.suggestions.is_empty() {
        add("examples", json!(spec.facets.suggestions));
    }
    if let Some(slider) = spec.facets.slider {
        add("x-slider", json!(slider));
    }
    if let Some(grid) = spec.facets.grid {
        add("x-grid", json!(grid));
    }
    if !spec.facets.depends_on.is_empty() {
        add("x-applies-when", json!(spec.facets.depends_on));
    }
    if spec.facets.is_hidden {
        add("x-hidden", json!(true));
    }
    if !spec.facets.hidden_for.is_empty() {
        let kinds: Vec<&str> = spec.problem_types().map(ProblemType::as_str).collect();
        add("x-problem-types", json!(kinds));
    }
    schema
}

fn number(kind: Kind, value: f64) -> Json {
    if kind == Kind::Int { json!(value as i64) } else { json!(value) }
}
