//! What is known about a field besides its value.

use serde::Serialize;

use crate::choices::ProblemType;
use crate::field_value::Value;

/// One field of the schema.
#[derive(Debug, Clone, Copy)]
pub struct FieldSpec {
    /// Section the field stands in; empty for top-level fields.
    pub section: &'static str,
    /// Name in YAML and in Rust.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Value of a file that does not mention the field.
    pub default: fn() -> Value,
    /// Ranges, choices, visibility.
    pub facets: Facets,
    pub(crate) raw_help: &'static str,
}

/// Type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// true or false.
    Bool,
    /// Whole number, not negative unless its limits say so.
    Int,
    /// Finite number.
    Float,
    /// Text.
    Text,
    /// Text, or the word `None` for absent.
    OptionalText,
    /// One of a fixed set of words.
    Choice(&'static [&'static str]),
    /// List of texts.
    TextList,
    /// List of words of a fixed set.
    ChoiceList(&'static [&'static str]),
}

/// What a number must satisfy to make sense at all. Files beyond it do not load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limit {
    /// Smallest value.
    pub min: f64,
    /// Largest value, if there is one.
    pub max: Option<f64>,
    /// Whether `min` itself is not allowed.
    pub is_min_excluded: bool,
    /// Whether `max` itself is not allowed.
    pub is_max_excluded: bool,
}

/// The range a form's slider offers: a recommendation; any value within the [`Limit`] is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slider {
    /// Left end.
    pub min: f64,
    /// Right end; without one a form shows a number box.
    pub max: Option<f64>,
    /// Distance of two neighbouring values.
    pub step: f64,
}

/// Values a grid search offers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Grid {
    /// The offered values.
    pub values: &'static [f64],
    /// Whether other values may be typed in.
    pub is_custom_allowed: bool,
}

/// Condition on another field of the same section under which a field has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// Name of the other field.
    pub field: &'static str,
    /// Value it is compared with, as YAML spells it; nothing means "any value at all".
    pub value: Option<&'static str>,
    /// Whether it must have that value or must not.
    pub is_set: bool,
}

/// Properties of a field beyond type, default and help; built up in its declaration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facets {
    /// Hard range of a number.
    pub limit: Option<Limit>,
    /// Recommended range of a number.
    pub slider: Option<Slider>,
    /// Values worth offering for a text or list.
    pub suggestions: &'static [&'static str],
    /// Grid search values for numbers.
    pub grid: Option<Grid>,
    /// Whether grid search may try every choice.
    pub is_choice_grid: bool,
    /// All must hold for the field to matter.
    pub depends_on: &'static [Dependency],
    /// Kept for files, not shown in forms.
    pub is_hidden: bool,
    /// Problem types for which the field has no meaning.
    pub hidden_for: &'static [ProblemType],
    /// Defaults of other problem types than causal language modeling, where they differ, as text.
    pub defaults_for: &'static [(&'static [ProblemType], &'static str)],
    /// Which of the choices make sense, by problem type; all where a type is not listed.
    pub choices_for: &'static [(ProblemType, &'static [&'static str])],
}

impl FieldSpec {
    /// `section.name`, or the name alone at top level.
    pub fn path(&self) -> String {
        if self.section.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.section, self.name) }
    }

    /// Title for forms: words capitalised, `llm` as LLM.
    pub fn label(&self) -> String {
        let words = self.name.split('_').map(|word| {
            if word == "llm" {
                return "LLM".to_owned();
            }
            let mut letters = word.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        });
        words.collect::<Vec<String>>().join(" ")
    }

    /// The help text: one paragraph a line.
    pub fn help(&self) -> String {
        let mut paragraphs = vec![String::new()];
        for line in self.raw_help.lines().map(str::trim) {
            match paragraphs.last_mut() {
                Some(last) if !line.is_empty() => {
                    if !last.is_empty() {
                        last.push(' ');
                    }
                    last.push_str(line);
                }
                _ => paragraphs.push(String::new()),
            }
        }
        paragraphs.retain(|paragraph| !paragraph.is_empty());
        paragraphs.join("\n")
    }

    /// Problem types for which the field has a meaning.
    pub fn problem_types(&self) -> impl Iterator<Item = ProblemType> {
        let hidden_for = self.facets.hidden_for;
        ProblemType::ALL.iter().copied().filter(move |kind| !hidden_for.contains(kind))
    }

    /// The default of a problem type as text, where it differs from [`Self::default`].
    pub fn other_default(&self, problem_type: ProblemType) -> Option<&'static str> {
        let mut defaults = self.facets.defaults_for.iter();
        defaults.find(|(kinds, _)| kinds.contains(&problem_type)).map(|(_, text)| *text)
    }

    /// The choices that make sense for a problem type; `None` where the field takes no choice or all of them do.
    pub fn choices_of(&self, problem_type: ProblemType) -> Option<&'static [&'static str]> {
        let mut choices = self.facets.choices_for.iter();
        choices.find(|(kind, _)| *kind == problem_type).map(|(_, names)| *names)
    }

    /// What the field accepts, as the end of "expected …".
    pub fn allowed(&self) -> String {
        let range = self.facets.limit.map(|limit| limit.describe(self.kind)).unwrap_or_default();
        match self.kind {
            Kind::Bool => "true or false".to_owned(),
            Kind::Int => format!("a whole number{range}"),
            Kind::Float => format!("a number{range}"),
            Kind::Text => "text".to_owned(),
            Kind::OptionalText => "text, or None".to_owned(),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::TextList => "a list of texts".to_owned(),
            Kind::ChoiceList(names) => format!("a list out of {}", names.join(", ")),
        }
    }
}

impl Limit {
    /// Whether `value` is inside.
    pub fn contains(&self, value: f64) -> bool {
        let above = if self.is_min_excluded { value > self.min } else { value >= self.min };
        let below = match self.max {
            Some(max) if self.is_max_excluded => value < max,
            Some(max) => value <= max,
            None => true,
        };
        above && below
    }

    /// ` of at least 1`, ` above 0 and at most 1`, …
    fn describe(&self, kind: Kind) -> String {
        if let (Kind::Int, Some(max), false, false) =
            (kind, self.max, self.is_min_excluded, self.is_max_excluded)
        {
            return format!(" from {} to {max}", self.min);
        }
        let low = format!("{} {}", if self.is_min_excluded { "above" } else { "of at least" }, self.min);
        match self.max {
            None => format!(" {low}"),
            Some(max) => {
                format!(" {low} and {} {max}", if self.is_max_excluded { "below" } else { "at most" })
            }
        }
    }
}

impl Dependency {
    /// Whether the condition holds, given the current value (or, for a list, the values) of the other field.
    ///
    /// A wanted value must be among them; an unwanted one holds as soon as one of them differs; "any value"
    /// unwanted-as-absent holds when there is at least one.
    pub fn holds(&self, values: &[&str]) -> bool {
        match (self.value, self.is_set) {
            (Some(wanted), true) => values.contains(&wanted),
            (Some(unwanted), false) => values.iter().any(|value| *value != unwanted),
            (None, true) => false,
            (None, false) => !values.is_empty(),
        }
    }

    /// The condition as words, for example `lora is true`.
    pub fn describe(&self) -> String {
        match (self.value, self.is_set) {
            (Some(value), true) => format!("{} is {value}", self.field),
            (Some(value), false) => format!("{} is not {value}", self.field),
            (None, true) => format!("{} is empty", self.field),
            (None, false) => format!("{} is not empty", self.field),
        }
    }
}

/// The other field has this value.
pub(crate) const fn is(field: &'static str, value: &'static str) -> Dependency {
    Dependency { field, value: Some(value), is_set: true }
}

/// The other field has another value than this.
pub(crate) const fn is_not(field: &'static str, value: &'static str) -> Dependency {
    Dependency { field, value: Some(value), is_set: false }
}

/// The other field, a list, has entries.
pub(crate) const fn is_filled(field: &'static str) -> Dependency {
    Dependency { field, value: None, is_set: false }
}

/// Start of a field's declaration.
pub(crate) const fn facets() -> Facets {
    Facets {
        limit: None,
        slider: None,
        suggestions: &[],
        grid: None,
        is_choice_grid: false,
        depends_on: &[],
        is_hidden: false,
        hidden_for: &[],
        defaults_for: &[],
        choices_for: &[],
    }
}

/// Building steps; `const` so that declarations are tables.
impl Facets {
    pub(crate) const fn at_least(mut self, min: f64) -> Self {
        self.limit = Some(Limit { min, max: None, is_min_excluded: false, is_max_excluded: false });
        self
    }

    pub(crate) const fn within(mut self, min: f64, max: f64) -> Self {
        self.limit = Some(Limit { min, max: Some(max), is_min_excluded: false, is_max_excluded: false });
        self
    }

    pub(crate) const fn above(mut self, min: f64) -> Self {
        self.limit = Some(Limit { min, max: None, is_min_excluded: true, is_max_excluded: false });
        self
    }

    pub(crate) const fn above_to(mut self, min: f64, max: f64) -> Self {
        self.limit = Some(Limit { min, max: Some(max), is_min_excluded: true, is_max_excluded: false });
        self
    }

    pub(crate) const fn at_least_below(mut self, min: f64, max: f64) -> Self {
        self.limit = Some(Limit { min, max: Some(max), is_min_excluded: false, is_max_excluded: true });
        self
    }

    pub(crate) const fn between(mut self, min: f64, max: f64) -> Self {
        self.limit = Some(Limit { min, max: Some(max), is_min_excluded: true, is_max_excluded: true });
        self
    }

    pub(crate) const fn slider(mut self, min: f64, max: f64, step: f64) -> Self {
        self.slider = Some(Slider { min, max: Some(max), step });
        self
    }

    pub(crate) const fn spin(mut self, min: f64, step: f64) -> Self {
        self.slider = Some(Slider { min, max: None, step });
        self
    }

    pub(crate) const fn suggest(mut self, values: &'static [&'static str]) -> Self {
        self.suggestions = values;
        self
    }

    pub(crate) const fn grid(mut self, values: &'static [f64]) -> Self {
        self.grid = Some(Grid { values, is_custom_allowed: false });
        self
    }

    pub(crate) const fn open_grid(mut self, values: &'static [f64]) -> Self {
        self.grid = Some(Grid { values, is_custom_allowed: true });
        self
    }

    pub(crate) const fn choice_grid(mut self) -> Self {
        self.is_choice_grid = true;
        self
    }

    pub(crate) const fn when(mut self, conditions: &'static [Dependency]) -> Self {
        self.depends_on = conditions;
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.is_hidden = true;
        self
    }

    pub(crate) const fn default_for(
        mut self,
        defaults: &'static [(&'static [ProblemType], &'static str)],
    ) -> Self {
        self.defaults_for = defaults;
        self
    }

    pub(crate) const fn choices_for(
        mut self,
        choices: &'static [(ProblemType, &'static [&'static str])],
    ) -> Self {
        self.choices_for = choices;
        self
    }

    pub(crate) const fn not_for(mut self, problem_types: &'static [ProblemType]) -> Self {
        self.hidden_for = problem_types;
        self
    }
}
