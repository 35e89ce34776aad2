//! Which modules an adapter's settings mean, with PEFT's rules (`check_target_module_exists`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AdapterConfig;
use super::patterns::Pattern;

/// What PEFT takes for every linear layer but the head.
const ALL_LINEAR: &str = "all-linear";

/// Which modules have an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(untagged)]
pub enum TargetModules {
    /// Left to PEFT's table of architectures.
    #[default]
    Unset,
    /// Ends of module paths: "q_proj".
    Names(Vec<String>),
    /// "all-linear" or a regular expression for whole module paths.
    Pattern(String),
}

impl TargetModules {
    /// Whether it is PEFT's word for every linear layer.
    pub fn is_all_linear(&self) -> bool {
        matches!(self, Self::Pattern(text) if text.to_lowercase() == ALL_LINEAR)
    }
}

/// Names of modules, or an expression for their whole paths.
#[derive(Debug)]
enum Names {
    /// Paths, or their ends after a dot.
    Ends(Vec<String>),
    /// An expression.
    Whole(Box<Pattern>),
}

impl Names {
    fn matches(&self, path: &str) -> Result<bool, String> {
        match self {
            Self::Ends(ends) => Ok(ends.iter().any(|end| is_end_of_path(path, end))),
            Self::Whole(pattern) => pattern.matches(path),
        }
    }

    /// A text is an expression, a list has names; `None` where there is neither.
    fn of(key: &str, value: Option<&Value>) -> Result<Option<Self>, String> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Self::whole(text).map(Some),
            Some(Value::Array(list)) => match texts(list) {
                Some(ends) if ends.is_empty() => Ok(None),
                Some(ends) => Ok(Some(Self::Ends(ends))),
                None => Err(format!("{key} is {}, not a list of names", Value::from(list.clone()))),
            },
            Some(other) => Err(format!("{key} is {other}, neither a list of names nor an expression")),
        }
    }

    fn whole(text: &str) -> Result<Self, String> {
        Ok(Self::Whole(Box::new(Pattern::of_path(text)?)))
    }
}

/// The modules that an adapter's settings mean.
#[derive(Debug)]
pub struct TargetRule {
    /// `None` means all.
    targets: Option<Names>,
    excluded: Option<Names>,
    stored_whole: Vec<Pattern>,
    /// Numbers of the layers, and how to find that of a module.
    layers: Option<(Vec<usize>, Vec<Pattern>)>,
}

impl AdapterConfig {
    /// The rule of these settings.
    ///
    /// # Errors
    /// A setting that cannot be understood, as a sentence.
    pub fn target_rule(&self) -> Result<TargetRule, String> {
        let targets = match &self.target_modules {
            TargetModules::Unset => None,
            all if all.is_all_linear() => None,
            TargetModules::Names(names) => Some(Names::Ends(names.clone())),
            TargetModules::Pattern(text) => Some(Names::whole(text)?),
        };
        let stored_whole = self.modules_to_save.iter().flatten().map(|module| Pattern::of_module(module));
        let layers = match (layer_numbers(self.other.get("layers_to_transform"))?, &targets) {
            // As in PEFT, numbers of layers go with a list of names and with nothing else.
            (Some(_), Some(Names::Whole(_))) => {
                return Err("layers_to_transform goes with a list of target_modules alone".to_owned());
            }
            (Some(numbers), _) => Some((numbers, layer_patterns(self.other.get("layers_pattern"))?)),
            (None, _) => None,
        };
        Ok(TargetRule {
            targets,
            excluded: Names::of("exclude_modules", self.other.get("exclude_modules"))?,
            stored_whole: stored_whole.collect::<Result<_, _>>()?,
            layers,
        })
    }
}

impl TargetRule {
    /// Whether the module at `path` has an update.
    ///
    /// # Errors
    /// A pattern that cannot be tried on the path, as a sentence.
    pub fn means(&self, path: &str) -> Result<bool, String> {
        if let Some(excluded) = &self.excluded
            && excluded.matches(path)?
        {
            return Ok(false);
        }
        for module in &self.stored_whole {
            if module.matches(path)? {
                return Ok(false);
            }
        }
        let is_target = match &self.targets {
            Some(targets) => targets.matches(path)?,
            None => true,
        };
        let (true, Some((numbers, patterns))) = (is_target, &self.layers) else { return Ok(is_target) };
        // A path named whole is meant whatever its layer.
        if matches!(&self.targets, Some(Names::Ends(ends)) if ends.iter().any(|end| end == path)) {
            return Ok(true);
        }
        for pattern in patterns {
            if let Some(layer_idx) = pattern.layer_idx(path)? {
                return Ok(numbers.contains(&layer_idx));
            }
        }
        Ok(false)
    }
}

/// Whether `end` is the path or its end after a dot.
pub fn is_end_of_path(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn texts(list: &[Value]) -> Option<Vec<String>> {
    list.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

fn layer_numbers(value: Option<&Value>) -> Result<Option<Vec<usize>>, String> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    let wrong =
        |value: &Value| format!("layers_to_transform is {value}, neither a number nor a list of numbers");
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) if list.is_empty() => Ok(None),
        Some(value @ Value::Array(list)) => {
            list.iter().map(number).collect::<Option<Vec<_>>>().map(Some).ok_or_else(|| wrong(value))
        }
        Some(value) => number(value).map(|number| Some(vec![number])).ok_or_else(|| wrong(value)),
    }
}

fn layer_patterns(value: Option<&Value>) -> Result<Vec<Pattern>, String> {
    let wrong = |value: &Value| format!("layers_pattern is {value}, neither a text nor a list of texts");
    let names = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(name)) if name.is_empty() => Vec::new(),
        Some(Value::String(name)) => vec![name.clone()],
        Some(value @ Value::Array(list)) => texts(list).ok_or_else(|| wrong(value))?,
        Some(value) => return Err(wrong(value)),
    };
    if names.is_empty() {
        return Ok(vec![Pattern::of_layer(None)?]);
    }
    names.iter().map(|name| Pattern::of_layer(Some(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &str) -> AdapterConfig {
        serde_json::from_str(&format!(r#"{{"peft_type":"LORA",{settings}}}"#)).unwrap()
    }

    #[test]
    fn every_form_of_target_modules_is_read() {
        let read = |value: &str| config(&format!(r#""target_modules":{value}"#)).target_modules;
        assert_eq!(read("null"), TargetModules::Unset);
        assert_eq!(read(r#"["a"]"#), TargetModules::Names(vec!["a".into()]));
        assert!(read(r#""All-Linear""#).is_all_linear());
        assert!(!read(r#"".*q_proj""#).is_all_linear());
    }

    #[test]
    fn modules_are_meant_as_in_peft() {
        const PATHS: [&str; 4] = [
            "model.layers.0.self_attn.q_proj",
            "model.layers.1.self_attn.q_proj",
            "model.layers.1.mlp.up_proj",
            "model.layers.10.mlp.experts.1.up_proj",
        ];
        let meant = |settings: &str| -> Vec<usize> {
            let rule = config(settings).target_rule().unwrap();
            (0..PATHS.len()).filter(|place| rule.means(PATHS[*place]).unwrap()).collect()
        };
        assert_eq!(meant(r#""target_modules":["q_proj"]"#), [0, 1]);
        assert_eq!(meant(r#""target_modules":"all-linear""#), [0, 1, 2, 3]);
        assert_eq!(meant(r#""target_modules":null"#), [0, 1, 2, 3]);
        assert_eq!(meant(r#""target_modules":".*(q|up)_proj","exclude_modules":["up_proj"]"#), [0, 1]);
        assert_eq!(meant(r#""target_modules":"q_proj""#), [0; 0], "an expression is for the whole path");
        assert_eq!(meant(r#""target_modules":["up_proj"],"exclude_modules":".*experts.*""#), [2]);
        assert_eq!(meant(r#""target_modules":["q_proj","up_proj"],"layers_to_transform":1"#), [1, 2]);
        assert_eq!(meant(r#""target_modules":["q_proj","up_proj"],"layers_to_transform":[0,10]"#), [0, 3]);
        let experts =
            r#""target_modules":["up_proj"],"layers_to_transform":[1],"layers_pattern":["experts"]"#;
        assert_eq!(meant(experts), [3]);
        let nowhere = r#""target_modules":["up_proj"],"layers_to_transform":[1],"layers_pattern":"h""#;
        assert_eq!(meant(nowhere), [0; 0]);
        let whole = r#""target_modules":["model.layers.1.mlp.up_proj"],"layers_to_transform":[7]"#;
        assert_eq!(meant(whole), [2]);
        assert_eq!(meant(r#""target_modules":["q_proj","up_proj"],"modules_to_save":["mlp"]"#), [0, 1]);
        for wrong in [
            r#""target_modules":"(""#,
            r#""layers_to_transform":["a"]"#,
            r#""exclude_modules":7"#,
            r#""target_modules":".*","layers_to_transform":[1]"#,
        ] {
            assert!(config(wrong).target_rule().is_err(), "{wrong}");
        }
    }
}
