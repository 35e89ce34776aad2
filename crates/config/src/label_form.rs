//! How the answer columns of a classification hold labels, and what the classes are called.

use crate::choices::{LossFunction, ProblemType};
use crate::sections::ExperimentConfig;

/// How answer columns say which labels a sample has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelForm {
    /// One column with one of several classes that exclude each other: a logit for each.
    SingleLabel,
    /// One column with one of two classes: one logit, that of the second.
    Binary,
    /// A column of 0 and 1 for each label: a logit for each.
    LabelColumns,
    /// One column that holds any number of labels in a cell: a logit for each.
    LabelLists,
}

impl ExperimentConfig {
    /// How labels stand in the answer columns; `None` where no classes are learned. One column with a binary loss holds lists
    /// where there is a logit for each of the class names.
    pub fn label_form(&self) -> Option<LabelForm> {
        if self.problem_type != ProblemType::CausalClassificationModeling {
            return None;
        }
        let dataset = &self.dataset;
        let n_names = dataset.class_names.len();
        Some(match dataset.answer_column.all().len() {
            _ if self.training.loss_function == LossFunction::CrossEntropyLoss => LabelForm::SingleLabel,
            2.. => LabelForm::LabelColumns,
            _ if n_names > 0 && n_names == dataset.num_classes => LabelForm::LabelLists,
            _ => LabelForm::Binary,
        })
    }

    /// What each class is called, in the order of their indices: its name, its number where classes have none, or the column of
    /// a label. Right once number and names are known, as they are in a run's own configuration. Empty where no classes are learned.
    pub fn class_labels(&self) -> Vec<String> {
        let dataset = &self.dataset;
        let numbers = |n: usize| (0..n).map(|class| class.to_string()).collect();
        match self.label_form() {
            None => Vec::new(),
            Some(LabelForm::LabelColumns) => dataset.answer_column.all().to_vec(),
            Some(_) if !dataset.class_names.is_empty() => dataset.class_names.clone(),
            Some(LabelForm::Binary) => numbers(2),
            Some(_) => numbers(dataset.num_classes),
        }
    }

    /// What each logit is called, where its class has a name; `None` where classes are numbers, or none are learned.
    pub fn named_outputs(&self) -> Option<Vec<String>> {
        match self.label_form()? {
            LabelForm::LabelColumns => Some(self.dataset.answer_column.all().to_vec()),
            _ if self.dataset.class_names.is_empty() => None,
            LabelForm::Binary => self.dataset.class_names.get(1).map(|name| vec![name.clone()]),
            _ => Some(self.dataset.class_names.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(changes: &[(&str, &str)]) -> ExperimentConfig {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        for (field, value) in changes {
            config.set(field, value).unwrap();
        }
        config
    }

    #[test]
    fn classes_are_called_by_name_number_or_column() {
        let softmax = ("training.loss_function", "CrossEntropyLoss");
        let names = ("dataset.class_names", "[ham, spam]");
        type Case<'a> = (&'a [(&'a str, &'a str)], LabelForm, &'a [&'a str], Option<&'a [&'a str]>);
        let cases: [Case<'_>; 6] = [
            (&[], LabelForm::Binary, &["0", "1"], None),
            (&[names], LabelForm::Binary, &["ham", "spam"], Some(&["spam"])),
            (&[softmax, ("dataset.num_classes", "3")], LabelForm::SingleLabel, &["0", "1", "2"], None),
            (
                &[softmax, names, ("dataset.num_classes", "2")],
                LabelForm::SingleLabel,
                &["ham", "spam"],
                Some(&["ham", "spam"]),
            ),
            (
                &[names, ("dataset.num_classes", "2")],
                LabelForm::LabelLists,
                &["ham", "spam"],
                Some(&["ham", "spam"]),
            ),
            (&[("dataset.answer_column", "x,y")], LabelForm::LabelColumns, &["x", "y"], Some(&["x", "y"])),
        ];
        for (changes, form, labels, outputs) in cases {
            let config = config(changes);
            assert_eq!(config.label_form(), Some(form), "{changes:?}");
            assert_eq!(config.class_labels(), labels, "{changes:?}");
            let named = config.named_outputs();
            assert_eq!(named.as_deref().map(<[String]>::len), outputs.map(<[&str]>::len), "{changes:?}");
            assert_eq!(named.unwrap_or_default(), outputs.unwrap_or_default(), "{changes:?}");
        }
        let config = ExperimentConfig::default();
        assert_eq!(
            (config.label_form(), config.class_labels(), config.named_outputs()),
            (None, vec![], None)
        );
    }
}
