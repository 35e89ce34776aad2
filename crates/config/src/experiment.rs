//! The whole experiment as YAML: reading with all its leniencies, writing, single settings.

use std::path::Path;
use std::sync::LazyLock;

use crate::choices::{Metric, ProblemType, ScoreHead};
use crate::declare::{FieldFault, Fields};
use crate::error::{ConfigError, FieldProblem, Warning};
use crate::field::{FieldSpec, Kind};
use crate::field_value::{FieldValue, Value};
use crate::legacy::{self, Fate};
use crate::nearest::nearest;
use crate::node::{Content, Key, Node};
use crate::sections::ExperimentConfig;
use crate::{slug, yaml_reader, yaml_writer};

/// All fields: the top-level ones first, then section by section in the order of the file.
pub fn schema() -> &'static [FieldSpec] {
    static SCHEMA: LazyLock<Vec<FieldSpec>> = LazyLock::new(|| {
        let config = ExperimentConfig::default();
        let sections = ExperimentConfig::SECTIONS.iter().filter_map(|name| config.section(name));
        config.specs().iter().chain(sections.flat_map(Fields::specs)).copied().collect()
    });
    &SCHEMA
}

/// The field of that path (`training.epochs`), or of that bare name if only one section has it.
pub fn find_field(name: &str) -> Option<&'static FieldSpec> {
    schema().iter().find(|spec| spec.path() == name).or_else(|| {
        let mut named = schema().iter().filter(|spec| spec.name == name);
        named.next().filter(|_| named.next().is_none())
    })
}

impl ExperimentConfig {
    /// The settings of a problem type when nothing is chosen.
    pub fn for_problem_type(problem_type: ProblemType) -> Self {
        let backbone = match problem_type {
            ProblemType::CausalLanguageModeling | ProblemType::ContinuedPretraining => {
                "h2oai/h2o-danube3-500m-base"
            }
            ProblemType::SequenceToSequenceModeling => "t5-small",
            _ => "h2oai/h2o-danube3-500m-chat",
        };
        let mut config = Self {
            problem_type,
            llm_backbone: backbone.to_owned(),
            output_directory: format!("output/{problem_type}_config"),
            ..Self::default()
        };
        for spec in schema() {
            if let Some(text) = spec.other_default(problem_type) {
                // A test sets every one of them; none can fail.
                config.set(&spec.path(), text).ok();
            }
        }
        config
    }

    /// Reads a YAML file of this program or of H2O LLM Studio.
    ///
    /// Fields the file leaves out have their defaults. Unknown fields and outdated values come back as warnings;
    /// a value of the wrong type or out of range is an error that names all such fields with their lines.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.to_owned(),
            action: "open",
            source,
        })?;
        Self::from_yaml(&text, &path.display().to_string())
    }

    /// Reads YAML text; `origin` names it in messages. See [`Self::load`].
    pub fn from_yaml(text: &str, origin: &str) -> Result<(Self, Vec<Warning>), ConfigError> {
        let entries = yaml_reader::read_mapping(text, origin)?;
        let mut loader = Loader { origin, problems: Vec::new(), warnings: Vec::new(), outdated: Vec::new() };
        let problem_type = loader.problem_type(&entries)?;
        let mut config = Self::for_problem_type(problem_type);
        loader.top_level(&mut config, &entries)?;
        loader.settle_outdated(&mut config, &entries);
        loader.settle_metric(&mut config);
        loader.settle_score_head(&mut config, &entries);
        loader.settle_device(&mut config, &entries);
        if config.experiment_name.is_empty() {
            config.experiment_name = slug::generate();
        }
        loader.finish(config)
    }

    /// The settings as YAML text that this program and H2O LLM Studio read back.
    pub fn to_yaml(&self) -> String {
        let mut names: Vec<&str> = self.specs().iter().map(|spec| spec.name).collect();
        names.extend(Self::SECTIONS);
        names.sort_unstable();
        let mut out = String::new();
        for name in names {
            match self.section(name) {
                Some(section) => {
                    out.push_str(&format!("{name}:\n"));
                    let mut fields: Vec<&str> = section.specs().iter().map(|spec| spec.name).collect();
                    fields.sort_unstable();
                    for field in fields {
                        if let Some(value) = section.field(field) {
                            yaml_writer::write_field(&mut out, 4, field, &value);
                        }
                    }
                }
                None => {
                    if let Some(value) = self.field(name) {
                        yaml_writer::write_field(&mut out, 0, name, &value);
                    }
                }
            }
        }
        out
    }

    /// The value of a field, by path or unique bare name.
    pub fn get(&self, name: &str) -> Option<Value> {
        let spec = find_field(name)?;
        match self.section(spec.section) {
            Some(section) => section.field(spec.name),
            None => self.field(spec.name),
        }
    }

    /// Sets one field from text, as a command line gives it, with the checks of [`Self::load`].
    ///
    /// Lists are separated by commas (`instruction,input`) or written as in YAML (`[instruction, input]`).
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let Some(spec) = find_field(name) else {
            let paths: Vec<String> = schema().iter().map(FieldSpec::path).collect();
            let by_name = nearest(name, schema().iter().map(|spec| spec.name))
                .and_then(|near| schema().iter().find(|spec| spec.name == near));
            let by_path = nearest(name, paths.iter().map(String::as_str)).map(str::to_owned);
            let nearest = by_path.or_else(|| by_name.map(FieldSpec::path));
            return Err(ConfigError::UnknownField { name: name.to_owned(), nearest });
        };
        let node = match spec.kind {
            Kind::TextList | Kind::ChoiceList(_) => list_node(text)?,
            _ => Node::plain(text),
        };
        let outcome = match self.section_mut(spec.section) {
            Some(section) => section.read_field(spec.name, &node),
            None => self.read_field(spec.name, &node),
        };
        match outcome {
            Ok(_) => Ok(()),
            Err(fault) => {
                let problem = field_problem("command line", spec.path(), &node, fault);
                Err(ConfigError::Fields { problems: vec![problem] })
            }
        }
    }

    /// All settings that have a meaning under the others and are shown in forms, as `section.name` and text, in their order.
    pub fn visible_values(&self) -> Vec<(String, String)> {
        let visible = schema().iter().filter(|spec| !spec.facets.is_hidden && self.applies(spec));
        visible.filter_map(|spec| Some((spec.path(), self.get(&spec.path())?.to_string()))).collect()
    }

    /// Whether the field has a meaning under the other settings: the conditions under which a form shows it.
    pub fn applies(&self, spec: &FieldSpec) -> bool {
        let is_known = spec.problem_types().any(|kind| kind == self.problem_type);
        is_known
            && spec.facets.depends_on.iter().all(|dependency| {
                let value = match self.section(spec.section) {
                    Some(section) => section.field(dependency.field),
                    None => self.field(dependency.field),
                };
                let entries = value.map(|value| value.entries()).unwrap_or_default();
                dependency.holds(&entries.iter().map(String::as_str).collect::<Vec<_>>())
            })
    }
}

/// Collects what is wrong with a file while it is read.
struct Loader<'a> {
    origin: &'a str,
    problems: Vec<FieldProblem>,
    warnings: Vec<Warning>,
    /// Keys and values of older versions, by path, that are looked at when everything else is read.
    outdated: Vec<(String, Node)>,
}

impl Loader<'_> {
    /// Read ahead of everything else, because defaults depend on it.
    fn problem_type(&self, entries: &[(Key, Node)]) -> Result<ProblemType, ConfigError> {
        let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "problem_type") else {
            return Err(ConfigError::MissingProblemType { origin: self.origin.to_owned() });
        };
        ProblemType::read(node).map_err(|mismatch| {
            let names: Vec<&str> = ProblemType::ALL.iter().map(|kind| kind.as_str()).collect();
            let note = legacy::problem_type_note(&node.to_string()).map(str::to_owned);
            let addition = note.or(mismatch.0).map(|text| format!(" ({text})")).unwrap_or_default();
            let expected = format!("one of {}{addition}", names.join(", "));
            let problem = FieldProblem {
                origin: self.origin.to_owned(),
                line: node.line,
                field: "problem_type".to_owned(),
                value: node.to_string(),
                expected,
            };
            ConfigError::Fields { problems: vec![problem] }
        })
    }

    fn top_level(
        &mut self,
        config: &mut ExperimentConfig,
        entries: &[(Key, Node)],
    ) -> Result<(), ConfigError> {
        let mut unknown = Vec::new();
        for (key, node) in entries {
            if let Some(section) = config.section_mut(&key.text) {
                self.section(section, key, node)?;
                continue;
            }
            match config.read_field(&key.text, node) {
                Ok(note) => self.note(key.text.clone(), node, note),
                Err(FieldFault::Unknown) => unknown.push(key),
                Err(fault) => self.problems.push(field_problem(self.origin, key.text.clone(), node, fault)),
            }
        }
        let known =
            config.specs().iter().map(|spec| spec.name).chain(ExperimentConfig::SECTIONS.iter().copied());
        self.unknown("", &unknown, &known.collect::<Vec<_>>());
        Ok(())
    }

    fn section(&mut self, section: &mut dyn Fields, key: &Key, node: &Node) -> Result<(), ConfigError> {
        let entries = match &node.content {
            Content::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => {
                return Err(ConfigError::Shape {
                    origin: self.origin.to_owned(),
                    line: node.line,
                    reason: format!("{} is a section and holds fields, not {node}", key.text),
                });
            }
        };
        let mut unknown = Vec::new();
        for (field, node) in entries {
            let path = format!("{}.{}", key.text, field.text);
            if legacy::fate(&path, node, &ExperimentConfig::default()).is_some() {
                self.outdated.push((path, node.clone()));
                continue;
            }
            match section.read_field(&field.text, node) {
                Ok(note) => self.note(path, node, note),
                Err(FieldFault::Unknown) => unknown.push(field),
                Err(fault) => self.problems.push(field_problem(self.origin, path, node, fault)),
            }
        }
        let known: Vec<&str> = section.specs().iter().map(|spec| spec.name).collect();
        self.unknown(&key.text, &unknown, &known);
        Ok(())
    }

    /// Keys and values of older versions of H2O LLM Studio.
    fn settle_outdated(&mut self, config: &mut ExperimentConfig, entries: &[(Key, Node)]) {
        for (path, node) in std::mem::take(&mut self.outdated) {
            match legacy::fate(&path, &node, config) {
                None | Some(Fate::Neutral) => {}
                Some(Fate::Noted(why)) => {
                    self.warn(Some(node.line), format!("{path} is not used: {why}"));
                }
                Some(Fate::Refused(expected)) => {
                    let fault = FieldFault::Value { expected: expected.to_owned() };
                    self.problems.push(field_problem(self.origin, path, &node, fault));
                }
                Some(Fate::Becomes(fields)) => {
                    for (field, value) in fields {
                        self.replace(config, entries, (&path, &node), field, value);
                    }
                }
            }
        }
    }

    /// Gives `field` the value that an outdated key means, unless the file names the field or it has that value anyway.
    fn replace(
        &mut self,
        config: &mut ExperimentConfig,
        entries: &[(Key, Node)],
        (path, node): (&str, &Node),
        field: &str,
        value: &str,
    ) {
        if path != field && is_named(entries, field) {
            let message = format!("{path} no longer exists and is not used: the file has {field} as well");
            return self.warn(Some(node.line), message);
        }
        let before = config.get(field);
        // A test sets every one of them; none can fail.
        config.set(field, value).ok();
        if before != config.get(field) {
            self.warn(
                Some(node.line),
                format!("{path}: {node} no longer exists; {field}: {value} is used instead"),
            );
        }
    }

    /// A file without a device that lists no GPU means the processor: so H2O LLM Studio writes an experiment of a machine
    /// without one. What is written here names a device.
    fn settle_device(&mut self, config: &mut ExperimentConfig, entries: &[(Key, Node)]) {
        let lists_none = is_named(entries, "environment.gpus") && config.environment.gpus.is_empty();
        if lists_none && !is_named(entries, "environment.device") {
            config.environment.device = "cpu".to_owned();
            let message = "environment.gpus names no GPU, so the processor computes; \
                           environment.device: auto takes a GPU where there is one";
            self.warn(None, message.to_owned());
        }
    }

    /// A metric of another problem type, or one that no longer exists, becomes that of the problem type, as it always did.
    fn settle_metric(&mut self, config: &mut ExperimentConfig) {
        let Some(spec) = find_field("prediction.metric") else { return };
        let fits = spec.choices_of(config.problem_type);
        if fits.is_none_or(|names| names.contains(&config.prediction.metric.as_str())) {
            return;
        }
        let fallback = match config.problem_type {
            ProblemType::CausalClassificationModeling => Metric::LogLoss,
            ProblemType::CausalRegressionModeling => Metric::Mse,
            ProblemType::ContinuedPretraining => Metric::Perplexity,
            _ => Metric::Bleu,
        };
        let given = std::mem::replace(&mut config.prediction.metric, fallback);
        let kind = config.problem_type;
        self.warn(
            None,
            format!("prediction.metric: {given} does not fit {kind}; {fallback} is used instead"),
        );
    }

    /// Files of H2O LLM Studio do not know the choice and mean its head.
    fn settle_score_head(&mut self, config: &mut ExperimentConfig, entries: &[(Key, Node)]) {
        let has_head = matches!(
            config.problem_type,
            ProblemType::CausalClassificationModeling | ProblemType::CausalRegressionModeling
        );
        if has_head && !is_named(entries, "architecture.score_head") {
            config.architecture.score_head = ScoreHead::Logits;
        }
    }

    fn note(&mut self, field: String, node: &Node, note: Option<String>) {
        if let Some(note) = note {
            self.warn(Some(node.line), format!("{field}: {note}"));
        }
    }

    /// One warning for all unknown names of a section (`""`: top level).
    fn unknown(&mut self, section: &str, keys: &[&Key], known: &[&str]) {
        let Some(first) = keys.first() else { return };
        let names: Vec<String> = keys
            .iter()
            .map(|key| match nearest(&key.text, known.iter().copied()) {
                Some(near) => format!("{} (did you mean {near}?)", key.text),
                None => key.text.clone(),
            })
            .collect();
        let place = if section.is_empty() { "at top level".to_owned() } else { format!("in {section}") };
        self.warn(Some(first.line), format!("not known {place} and not used: {}", names.join(", ")));
    }

    fn warn(&mut self, line: Option<usize>, message: String) {
        self.warnings.push(Warning { origin: self.origin.to_owned(), line, message });
    }

    fn finish(self, config: ExperimentConfig) -> Result<(ExperimentConfig, Vec<Warning>), ConfigError> {
        if self.problems.is_empty() {
            Ok((config, self.warnings))
        } else {
            Err(ConfigError::Fields { problems: self.problems })
        }
    }
}

/// Whether a file names the field `section.name`.
fn is_named(entries: &[(Key, Node)], path: &str) -> bool {
    let Some((section, name)) = path.split_once('.') else { return false };
    entries.iter().any(|(key, node)| match &node.content {
        Content::Map(fields) => key.text == section && fields.iter().any(|(field, _)| field.text == name),
        _ => false,
    })
}

fn field_problem(origin: &str, field: String, node: &Node, fault: FieldFault) -> FieldProblem {
    let expected = match fault {
        FieldFault::Value { expected } => expected,
        FieldFault::Unknown => "a known field".to_owned(),
    };
    FieldProblem { origin: origin.to_owned(), line: node.line, field, value: node.to_string(), expected }
}

/// A list as a command line gives it.
fn list_node(text: &str) -> Result<Node, ConfigError> {
    let content = if text.trim_start().starts_with('[') {
        let entries = yaml_reader::read_mapping(&format!("list: {text}"), "command line")?;
        match entries.into_iter().next() {
            Some((_, node)) => node.content,
            None => Content::List(Vec::new()),
        }
    } else {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Content::List(items.map(Node::plain).collect())
    };
    Ok(Node { line: 0, content })
}
