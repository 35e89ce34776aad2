//! A grid search: one experiment for each combination of values, without those that would be the same run.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tunesmith_config::find_field;

use super::experiment_file::{config_of, text_of};
use crate::error::{ApiError, ApiResult};

/// The most experiments that one request makes.
const N_MOST: usize = 500;

/// One experiment of a search.
#[derive(Debug, PartialEq)]
pub(crate) struct Combination {
    /// `_field_value` for each field that has more than one value and a meaning here, by field.
    pub(crate) suffix: String,
    /// All fields.
    pub(crate) values: Map<String, Value>,
    /// What sets it apart.
    pub(crate) changes: Map<String, Value>,
}

/// All combinations of `grid` over `base`. A field that the other settings of a combination make meaningless keeps its value of
/// `base`, and combinations that are the same then are one.
///
/// # Errors
/// An empty list, a field that is not known, a value that is not allowed, or too many combinations.
pub(crate) fn combinations(
    base: &Map<String, Value>,
    grid: &BTreeMap<String, Vec<Value>>,
) -> ApiResult<Vec<Combination>> {
    let mut axes: Vec<(String, &Vec<Value>)> = Vec::new();
    for (name, values) in grid {
        let field = find_field(name).ok_or_else(|| ApiError::invalid(format!("there is no field {name}")))?;
        if values.is_empty() {
            return Err(ApiError::invalid(format!("{name} has no value in the grid")));
        }
        axes.push((field.path(), values));
    }
    let n_all = axes.iter().try_fold(1_usize, |n, (_, values)| n.checked_mul(values.len()));
    let n_all = n_all.filter(|n| *n <= N_MOST).ok_or_else(|| {
        ApiError::invalid(format!("the grid has more than {N_MOST} combinations"))
            .hint("leave out some values")
    })?;
    let mut found: Vec<Combination> = Vec::new();
    for combination_idx in 0..n_all {
        let mut rest = combination_idx;
        let mut all = base.clone();
        let mut chosen = Vec::new();
        for (path, values) in axes.iter().rev() {
            if let Some(value) = values.get(rest % values.len()) {
                all.insert(path.clone(), value.clone());
                chosen.push((path, value, values.len()));
            }
            rest /= values.len();
        }
        chosen.reverse();
        let config = config_of(&all)?;
        let (mut values, mut changes, mut suffix) = (base.clone(), Map::new(), String::new());
        for (path, value, n_values) in chosen {
            let Some(field) = find_field(path).filter(|field| config.applies(field)) else { continue };
            values.insert(path.clone(), value.clone());
            if 1 < n_values {
                changes.insert(path.clone(), value.clone());
                suffix.push_str(&format!("_{}_{}", field.name, text_of(value)));
            }
        }
        if found.iter().all(|other| other.values != values) {
            found.push(Combination { suffix, values, changes });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn grid(value: Value) -> BTreeMap<String, Vec<Value>> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn all_combinations_without_those_that_are_the_same_run() {
        let base = json!({"training.epochs": 2}).as_object().unwrap().clone();
        let found = combinations(
            &base,
            &grid(json!({"training.lora": [true, false], "training.lora_r": [2, 4], "batch_size": [1]})),
        )
        .unwrap();
        let suffixes: Vec<&str> = found.iter().map(|one| one.suffix.as_str()).collect();
        assert_eq!(suffixes, ["_lora_true_lora_r_2", "_lora_true_lora_r_4", "_lora_false"]);
        assert!(
            found
                .iter()
                .all(|one| one.values["training.batch_size"] == 1 && one.values["training.epochs"] == 2)
        );
        assert!(!found[2].values.contains_key("training.lora_r"));
        assert_eq!(
            found[1].changes,
            *json!({"training.lora": true, "training.lora_r": 4}).as_object().unwrap()
        );
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let base = Map::new();
        for (values, word) in [
            (json!({"training.epoch": [1]}), "training.epoch"),
            (json!({"training.epochs": []}), "no value"),
            (json!({"training.epochs": [1, "many"]}), "many"),
            (
                json!({"training.epochs": (1..30).collect::<Vec<_>>(), "batch_size": (1..30).collect::<Vec<_>>()}),
                "500",
            ),
        ] {
            let error = combinations(&base, &grid(values)).unwrap_err();
            assert!(error.message.contains(word), "{error}");
        }
    }
}
