//! The fields of an experiment as forms need them: kind, ranges, choices, defaults, conditions.
//!
//! The types repeat those of the configuration, because the interface's description is made from them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use tunesmith_config::{
    Dependency, ExperimentConfig, FieldSpec, Kind, Limit, ProblemType, Slider, not_built_note, schema,
};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Sections in the order of a form, with what they are about; fields outside any section come first.
const SECTIONS: [(&str, &str, &str); 9] = [
    ("", "General", "Name, model and kind of the experiment"),
    ("dataset", "Data set", "Tables, columns and how their cells become text"),
    ("tokenizer", "Tokenizer", "Token counts and tokenizer options"),
    ("architecture", "Architecture", "Model weights and their number formats"),
    ("training", "Training", "Loss, optimizer, schedule, adapters, checkpoints"),
    ("augmentation", "Augmentation", "Random changes of the training data"),
    ("prediction", "Prediction", "Validation metric and text generation"),
    ("environment", "Environment", "Devices, threads, seeds"),
    ("logging", "Logging", "Where the run's numbers go"),
];

/// All fields of an experiment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldSchema {
    sections: Vec<Section>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Section {
    /// Empty for the fields outside any section.
    name: String,
    title: String,
    help: String,
    fields: Vec<Field>,
}

/// A field of an experiment.
#[derive(Debug, Serialize, ToSchema)]
struct Field {
    /// `section.name`.
    path: String,
    name: String,
    section: String,
    label: String,
    /// A paragraph a line.
    help: String,
    kind: FieldKind,
    #[schema(required)]
    choices: Option<Vec<String>>,
    /// With the studio's own default where that was changed.
    #[schema(value_type = FieldValue)]
    default: Value,
    /// Values beyond are refused.
    #[schema(required)]
    limit: Option<FieldLimit>,
    /// What a slider offers.
    #[schema(required)]
    slider: Option<FieldSlider>,
    suggestions: Vec<String>,
    /// What a grid search offers.
    #[schema(required)]
    grid: Option<FieldGrid>,
    /// Whether a grid search may try every choice.
    is_choice_grid: bool,
    /// All must hold for the field to matter.
    depends_on: Vec<FieldDependency>,
    is_hidden: bool,
    /// Problem types for which it has no meaning.
    hidden_for: Vec<String>,
    /// Defaults of other problem types than causal language modeling, where they differ.
    #[schema(value_type = BTreeMap<String, FieldValue>)]
    defaults_for: BTreeMap<String, Value>,
    /// Which of the choices make sense, by problem type; all where a type is not listed.
    choices_for: BTreeMap<String, Vec<String>>,
    is_built: bool,
    /// What happens instead where it is not built.
    #[schema(required)]
    not_built_note: Option<String>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FieldKind {
    Bool,
    Int,
    Float,
    Text,
    /// A text or nothing.
    OptionalText,
    /// One of `choices`.
    Choice,
    /// Some of `choices`.
    ChoiceList,
    TextList,
}

/// Values that a number must be within.
#[derive(Debug, Serialize, ToSchema)]
struct FieldLimit {
    min: f64,
    #[schema(required)]
    max: Option<f64>,
    is_min_excluded: bool,
    is_max_excluded: bool,
}

/// The range of a slider; any value within the limit is accepted.
#[derive(Debug, Serialize, ToSchema)]
struct FieldSlider {
    min: f64,
    /// Without one a form shows a number box.
    #[schema(required)]
    max: Option<f64>,
    step: f64,
}

/// Values for a grid search.
#[derive(Debug, Serialize, ToSchema)]
struct FieldGrid {
    values: Vec<f64>,
    is_custom_allowed: bool,
}

/// A condition on another field under which a field has a meaning.
#[derive(Debug, Serialize, ToSchema)]
struct FieldDependency {
    /// Name of a field of the same section.
    field: String,
    /// What it is compared with, as YAML spells it; `null` is "any value at all".
    #[schema(required)]
    value: Option<String>,
    /// Whether it must have that value or must not.
    is_set: bool,
}

/// The value of a field, which depends on the field's kind: for the description only.
pub(crate) struct FieldValue;

impl PartialSchema for FieldValue {
    fn schema() -> RefOr<Schema> {
        let plain = |kind: Type| ObjectBuilder::new().schema_type(kind);
        OneOfBuilder::new()
            .item(plain(Type::Boolean))
            .item(plain(Type::Number))
            .item(plain(Type::String))
            .item(ArrayBuilder::new().items(plain(Type::String)))
            .item(plain(Type::Null))
            .into()
    }
}

impl ToSchema for FieldValue {}

/// All fields by section, with the defaults that `settings` change.
pub(crate) fn all_fields(settings: &BTreeMap<String, Value>) -> FieldSchema {
    let sections = SECTIONS.iter().map(|(name, title, help)| Section {
        name: (*name).to_owned(),
        title: (*title).to_owned(),
        help: (*help).to_owned(),
        fields: schema()
            .iter()
            .filter(|spec| spec.section == *name)
            .map(|spec| field(spec, settings.get(&format!("default.{}", spec.path()))))
            .collect(),
    });
    FieldSchema { sections: sections.collect() }
}

fn field(spec: &FieldSpec, own_default: Option<&Value>) -> Field {
    let path = spec.path();
    let (kind, choices) = match spec.kind {
        Kind::Bool => (FieldKind::Bool, None),
        Kind::Int => (FieldKind::Int, None),
        Kind::Float => (FieldKind::Float, None),
        Kind::Text => (FieldKind::Text, None),
        Kind::OptionalText => (FieldKind::OptionalText, None),
        Kind::Choice(names) => (FieldKind::Choice, Some(names)),
        Kind::TextList => (FieldKind::TextList, None),
        Kind::ChoiceList(names) => (FieldKind::ChoiceList, Some(names)),
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let facets = &spec.facets;
    let note = not_built_note(&path);
    Field {
        name: spec.name.to_owned(),
        section: spec.section.to_owned(),
        label: spec.label(),
        help: spec.help(),
        kind,
        choices: choices.map(owned),
        default: own_default.cloned().unwrap_or_else(|| json!((spec.default)())),
        limit: facets.limit.map(|Limit { min, max, is_min_excluded, is_max_excluded }| FieldLimit {
            min,
            max,
            is_min_excluded,
            is_max_excluded,
        }),
        slider: facets.slider.map(|Slider { min, max, step }| FieldSlider { min, max, step }),
        suggestions: owned(facets.suggestions),
        grid: facets.grid.map(|grid| FieldGrid {
            values: grid.values.to_vec(),
            is_custom_allowed: grid.is_custom_allowed,
        }),
        is_choice_grid: facets.is_choice_grid,
        depends_on: facets.depends_on.iter().map(dependency).collect(),
        is_hidden: facets.is_hidden,
        hidden_for: facets.hidden_for.iter().map(|kind| kind.as_str().to_owned()).collect(),
        defaults_for: defaults_for(spec),
        choices_for: facets
            .choices_for
            .iter()
            .map(|(kind, names)| (kind.as_str().to_owned(), owned(names)))
            .collect(),
        is_built: note.is_none(),
        not_built_note: note.map(str::to_owned),
        path,
    }
}

fn defaults_for(spec: &FieldSpec) -> BTreeMap<String, Value> {
    let kinds = ProblemType::ALL.iter().filter(|kind| spec.other_default(**kind).is_some());
    kinds
        .filter_map(|kind| {
            let value = ExperimentConfig::for_problem_type(*kind).get(&spec.path())?;
            Some((kind.as_str().to_owned(), json!(value)))
        })
        .collect()
}

fn dependency(of: &Dependency) -> FieldDependency {
    FieldDependency { field: of.field.to_owned(), value: of.value.map(str::to_owned), is_set: of.is_set }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_a_section() {
        for spec in schema() {
            assert!(SECTIONS.iter().any(|(name, ..)| *name == spec.section), "{}", spec.path());
        }
    }
}
