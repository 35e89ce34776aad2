//! Which classes an experiment has: the labels of its training table, or those that it names.
//!
//! What is found goes into the configuration ([`FoundLabels::set_in`]), so that everything after it, in this run and in
//! whatever reads its configuration later, has one mapping. [`crate::label_values`] then turns cells into class indices.

use std::collections::{BTreeMap, BTreeSet};

use tunesmith_config::{ExperimentConfig, LabelForm, LossFunction, Metric, ProblemType};

use crate::columns::required;
use crate::error::{DataError, Result};
use crate::label_cells::{LabelCell, truth, truth_value, whole_number};
use crate::label_column::{LabelColumn, shown_labels};
use crate::preview_render::count;
use crate::table::Table;

/// What stands between labels where nothing is configured, in the order in which it is looked for.
const SEPARATORS: [&str; 3] = ["|", ";", ","];

/// The classes of an experiment, as its configuration says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLabels {
    /// `dataset.class_names`: in the order of the logits; empty where the table has class indices or a column for each label.
    pub class_names: Vec<String>,
    /// `dataset.num_classes`, which is the number of logits.
    pub num_classes: usize,
    /// `dataset.label_separator`; `none` for lists.
    pub label_separator: String,
}

impl FoundLabels {
    /// Writes them into a configuration, which has one mapping from then on.
    pub fn set_in(&self, config: &mut ExperimentConfig) {
        config.dataset.class_names.clone_from(&self.class_names);
        config.dataset.num_classes = self.num_classes;
        config.dataset.label_separator.clone_from(&self.label_separator);
    }
}

/// The classes of a training table, with sentences on how they were found; `None` where the experiment learns no classes.
///
/// # Errors
/// [`DataError::MissingColumn`]; [`DataError::Values`] for cells that are no labels, labels that are none of
/// `dataset.class_names`, and labels that the loss cannot tell apart; [`DataError::Setting`] where the number of
/// classes is another one than configured, or it cannot be told what stands between labels.
pub fn find_labels(table: &Table, config: &ExperimentConfig) -> Result<Option<(FoundLabels, Vec<String>)>> {
    if config.problem_type != ProblemType::CausalClassificationModeling {
        return Ok(None);
    }
    let dataset = &config.dataset;
    if config.label_form() == Some(LabelForm::LabelColumns) {
        for name in dataset.answer_column.all() {
            required(table, name, "dataset.answer_column")?;
        }
        let labels = FoundLabels {
            class_names: dataset.class_names.clone(),
            num_classes: dataset.answer_column.all().len(),
            label_separator: dataset.label_separator.clone(),
        };
        return Ok(Some((labels, Vec::new())));
    }
    let column = LabelColumn::read(table, config)?;
    let finder = Finder {
        column: &column,
        config,
        is_binary_loss: config.training.loss_function != LossFunction::CrossEntropyLoss,
    };
    finder.find().map(Some)
}

type Found = (FoundLabels, Vec<String>);

/// One column of a training table, to be understood.
struct Finder<'a> {
    column: &'a LabelColumn<'a>,
    config: &'a ExperimentConfig,
    is_binary_loss: bool,
}

impl Finder<'_> {
    fn find(&self) -> Result<Found> {
        let column = self.column;
        if column.has_lists(self.is_binary_loss) {
            if !self.is_binary_loss {
                return Err(column.error(
                    format!("it holds lists of labels{}, but CrossEntropyLoss takes one label", column.first_list()),
                    "set training.loss_function to BinaryCrossEntropyLoss, which tells for each label whether it applies",
                ));
            }
            return self.label_lists("none".to_owned());
        }
        let configured = &self.config.dataset.label_separator;
        match configured.as_str() {
            "none" => self.single(),
            "auto" if self.is_binary_loss => match self.separator()? {
                Some(separator) => self.label_lists(separator.to_owned()),
                None => self.single(),
            },
            "auto" => self.single(),
            _ => self.label_lists(configured.clone()),
        }
    }

    /// What stands between the labels of a cell, if cells hold several; believed where a part occurs in two different cells.
    fn separator(&self) -> Result<Option<&'static str>> {
        let cells: BTreeSet<&str> = self.column.cells.iter().filter_map(LabelCell::label).collect();
        let is_one = |separator: &&str| {
            let mut n_cells_of_part: BTreeMap<&str, usize> = BTreeMap::new();
            for cell in &cells {
                let parts: BTreeSet<&str> = cell.split(*separator).map(str::trim).collect();
                parts.into_iter().for_each(|part| *n_cells_of_part.entry(part).or_default() += 1);
            }
            cells.iter().any(|cell| cell.contains(*separator)) && n_cells_of_part.values().any(|n| *n > 1)
        };
        let ambiguous = |reason: String| {
            let field = "dataset.label_separator";
            Err(DataError::Setting {
                field,
                reason: format!("{reason}; set it to what stands between labels, or to none"),
            })
        };
        let name = self.column.name;
        match SEPARATORS.into_iter().filter(is_one).collect::<Vec<_>>().as_slice() {
            [] => Ok(None),
            [separator] if cells.len() <= 2 => {
                let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:?}")).collect();
                ambiguous(format!(
                    "the column {name} holds {} only, which may be two labels or labels with {separator:?} between them",
                    cells.join(" and ")
                ))
            }
            [separator] => Ok(Some(separator)),
            several => ambiguous(format!("the cells of the column {name} hold {}", several.join(" and "))),
        }
    }

    /// One label a cell.
    fn single(&self) -> Result<Found> {
        let dataset = &self.config.dataset;
        let column = self.column;
        if self.is_binary_loss && dataset.num_classes > 1 {
            let reason = format!(
                "is {}, but BinaryCrossEntropyLoss tells two labels apart where a cell of the one column {} holds one; set \
                 it to 1, or training.loss_function to CrossEntropyLoss{}",
                dataset.num_classes,
                column.name,
                self.separator_hint()
            );
            return Err(DataError::Setting { field: "dataset.num_classes", reason });
        }
        if !dataset.class_names.is_empty() {
            return self.given();
        }
        let labels = column.distinct();
        let are_truth_values = labels.iter().all(|label| truth_value(label).is_some());
        if are_truth_values && matches!(dataset.num_classes, 0..=2) {
            return Ok(self.named(vec![truth(false).to_owned(), truth(true).to_owned()]));
        }
        // Truth values beside numbers are 0 and 1.
        let numbers: Option<BTreeSet<i64>> = labels
            .iter()
            .map(|label| whole_number(label).or_else(|| truth_value(label).map(i64::from)))
            .collect();
        if let Some(n_classes) = numbers.as_ref().and_then(|numbers| self.n_indices(numbers)) {
            return Ok(self.indices(n_classes));
        }
        let n_classes = if self.is_binary_loss { 2 } else { dataset.num_classes };
        let is_one_name = labels.len() == 1 && numbers.is_none() && dataset.num_classes < 2;
        match labels.len() {
            n if n_classes > 1 && n != n_classes && !is_one_name => {
                Err(self.mismatch(&labels, numbers.is_some()))
            }
            1 => Err(column.error(
                format!("all {} rows have the label {:?}", column.cells.len(), labels.concat()),
                "classification needs rows of at least two labels",
            )),
            _ => Ok(self.named(labels)),
        }
    }

    /// How many classes there are when the numbers are class indices; `None` when they are something else.
    fn n_indices(&self, numbers: &BTreeSet<i64>) -> Option<usize> {
        let (smallest, largest) = (numbers.first()?, numbers.last()?);
        let fits =
            |n_classes: usize| 0 <= *smallest && usize::try_from(*largest).is_ok_and(|n| n < n_classes);
        match self.config.dataset.num_classes {
            _ if self.is_binary_loss => fits(2).then_some(2),
            n_classes @ 2.. => fits(n_classes).then_some(n_classes),
            _ => (numbers.len() > 1 && fits(numbers.len())).then_some(numbers.len()),
        }
    }

    fn indices(&self, n_classes: usize) -> Found {
        let mut notes = self.column.notes();
        let num_classes = if self.is_binary_loss { 1 } else { n_classes };
        if self.config.dataset.num_classes < num_classes {
            notes.push(format!(
                "the column {} holds the classes 0 to {}, so dataset.num_classes is {num_classes}",
                self.column.name,
                n_classes - 1
            ));
        }
        let label_separator = self.config.dataset.label_separator.clone();
        (FoundLabels { class_names: Vec::new(), num_classes, label_separator }, notes)
    }

    /// Labels in their order, each the class of its place.
    fn named(&self, class_names: Vec<String>) -> Found {
        let mut notes = self.column.notes();
        notes.push(self.column.mapping(&class_names));
        let num_classes = if self.is_binary_loss { 1 } else { class_names.len() };
        let label_separator = self.config.dataset.label_separator.clone();
        (FoundLabels { class_names, num_classes, label_separator }, notes)
    }

    /// The classes that the experiment names.
    fn given(&self) -> Result<Found> {
        let names = &self.config.dataset.class_names;
        if self.is_binary_loss && names.len() != 2 {
            let reason = format!(
                "has {} names, but BinaryCrossEntropyLoss tells two labels apart where a cell of the one column {} holds one; \
                 set training.loss_function to CrossEntropyLoss{}",
                names.len(),
                self.column.name,
                self.separator_hint()
            );
            return Err(DataError::Setting { field: "dataset.class_names", reason });
        }
        let places = self.column.places(names, true)?;
        let (found, mut notes) = self.named(names.clone());
        if places.by_number {
            notes.push(format!(
                "the numbers in the column {} are the places of dataset.class_names, counted from 0",
                self.column.name
            ));
        }
        Ok((found, notes))
    }

    /// Any number of labels a cell.
    fn label_lists(&self, label_separator: String) -> Result<Found> {
        let dataset = &self.config.dataset;
        let column = self.column;
        let lists = column.lists(&label_separator);
        column.refuse_multi_hot(&lists)?;
        let found = column.distinct_of(&lists);
        let fits = |label: &String| {
            whole_number(label).is_some_and(|n| usize::try_from(n).is_ok_and(|n| n < dataset.num_classes))
        };
        let class_names = if !dataset.class_names.is_empty() {
            column.check_lists(&lists, &dataset.class_names, "that dataset.class_names lacks")?;
            dataset.class_names.clone()
        } else if dataset.num_classes > 1 && found.iter().all(fits) {
            (0..dataset.num_classes).map(|class| class.to_string()).collect()
        } else {
            found
        };
        if class_names.is_empty() {
            return Err(
                column.error("no row has a label".to_owned(), "classification needs rows with labels")
            );
        }
        if dataset.num_classes > 1 && dataset.num_classes != class_names.len() {
            return Err(self.mismatch(&class_names, false));
        }
        let mut notes = column.notes();
        notes.push(column.list_mapping(&lists, &class_names, &label_separator));
        let n_bare = lists.iter().filter(|list| list.is_empty()).count();
        if n_bare > 0 {
            notes.push(format!(
                "{n_bare} of {} rows of the column {} have no label",
                lists.len(),
                column.name
            ));
        }
        let n_repeated =
            lists.iter().filter(|list| list.iter().collect::<BTreeSet<_>>().len() < list.len()).count();
        if n_repeated > 0 {
            notes.push(format!(
                "{} of the column {} with a label twice: it counts once",
                count(n_repeated, "cell"),
                column.name
            ));
        }
        Ok((FoundLabels { num_classes: class_names.len(), class_names, label_separator }, notes))
    }

    /// There are more labels, or fewer, than the settings say.
    fn mismatch(&self, labels: &[String], are_numbers: bool) -> DataError {
        let column = self.column;
        if are_numbers {
            let n_classes = if self.is_binary_loss { 2 } else { self.config.dataset.num_classes };
            return column.not_indices(n_classes);
        }
        if self.is_binary_loss && self.config.dataset.num_classes < 2 {
            return column.error(
                format!(
                    "it has {} labels ({}), and BinaryCrossEntropyLoss tells two apart",
                    labels.len(),
                    shown_labels(labels)
                ),
                &format!("set training.loss_function to CrossEntropyLoss{}", self.separator_hint()),
            );
        }
        let reason = format!(
            "is {}, but the column {} has {} labels ({}); set it to {} or, to find it, to 0, or name all classes in \
             dataset.class_names",
            self.config.dataset.num_classes,
            column.name,
            labels.len(),
            shown_labels(labels),
            labels.len()
        );
        DataError::Setting { field: "dataset.num_classes", reason }
    }

    /// What else could be meant, where a text holds something that may separate labels.
    fn separator_hint(&self) -> String {
        let is_there = |separator: &&str| {
            self.column.cells.iter().filter_map(LabelCell::label).any(|cell| cell.contains(*separator))
        };
        let found = SEPARATORS.into_iter().find(is_there);
        match found {
            Some(separator) if self.is_binary_loss => {
                format!(
                    "; if {separator:?} stands between the labels of a cell, set dataset.label_separator to it"
                )
            }
            _ => String::new(),
        }
    }
}

/// Refuses labels of a validation table that training, whose labels `config` has by now, has never seen.
///
/// # Errors
/// [`DataError::Values`] with the labels and their lines.
pub(crate) fn check_seen(table: &Table, config: &ExperimentConfig) -> Result<()> {
    let form = config.label_form();
    let what = "that no training row has";
    match form {
        None | Some(LabelForm::LabelColumns) => Ok(()),
        Some(LabelForm::LabelLists) => {
            let column = LabelColumn::read(table, config)?;
            let lists = column.lists(&config.dataset.label_separator);
            column.check_lists(&lists, &config.dataset.class_names, what)
        }
        Some(LabelForm::SingleLabel | LabelForm::Binary) => {
            let column = LabelColumn::read(table, config)?;
            // Class indices are compared as numbers, truth values among them.
            match config.dataset.class_names.is_empty() {
                true => Ok(()),
                false => column.check(&config.dataset.class_names, what),
            }
        }
    }
}

/// What to say of labels that validation rows have and no training row.
pub(crate) fn unseen_note(
    config: &ExperimentConfig,
    train: &[Vec<f32>],
    validation: &[Vec<f32>],
) -> Option<String> {
    let form = config.label_form()?;
    let labels = config.class_labels();
    let classes = |values: &[f32]| classes_of(form, values);
    let seen: BTreeSet<usize> = train.iter().flat_map(|values| classes(values)).collect();
    let mut unseen = BTreeSet::new();
    let mut n_rows = 0;
    for values in validation {
        let classes: Vec<usize> = classes(values).into_iter().filter(|class| !seen.contains(class)).collect();
        n_rows += usize::from(!classes.is_empty());
        unseen.extend(classes);
    }
    if unseen.is_empty() {
        return None;
    }
    let names: Vec<String> = unseen.iter().filter_map(|class| labels.get(*class).cloned()).collect();
    Some(format!(
        "labels that no training row has, in {}: {}; more rows of them, or another split, would let the model learn them",
        count(n_rows, "validation row"),
        shown_labels(&names)
    ))
}

/// What to say where the run is judged by AUC and validation rows are all alike in some label: there is no curve then.
pub(crate) fn no_curve_note(config: &ExperimentConfig, validation: &[Vec<f32>]) -> Option<String> {
    let form = config.label_form()?;
    if config.prediction.metric != Metric::Auc || validation.is_empty() {
        return None;
    }
    let labels = config.class_labels();
    let mut n_rows = vec![0; labels.len()];
    for class in validation.iter().flat_map(|values| classes_of(form, values)) {
        n_rows.get_mut(class).into_iter().for_each(|n| *n += 1);
    }
    let are_alike = n_rows.iter().zip(&labels).filter(|(n, _)| **n == 0 || **n == validation.len());
    let names: Vec<String> = are_alike.map(|(_, label)| label.clone()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "AUC has no value: no validation row has these labels, or all have them: {}; more validation rows, or another \
             prediction.metric such as LogLoss, would give one",
            shown_labels(&names)
        )
    })
}

/// The classes that the values of a row say.
fn classes_of(form: LabelForm, values: &[f32]) -> Vec<usize> {
    match form {
        LabelForm::SingleLabel | LabelForm::Binary => {
            values.iter().take(1).map(|class| *class as usize).collect()
        }
        LabelForm::LabelColumns | LabelForm::LabelLists => {
            let applies = values.iter().enumerate().filter(|(_, applies)| **applies > 0.0);
            applies.map(|(class, _)| class).collect()
        }
    }
}

/// Labels in the order of their classes: numbers by size, texts by their characters.
pub(crate) fn sorted(labels: BTreeSet<&str>) -> Vec<String> {
    let mut labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
    if labels.iter().all(|label| whole_number(label).is_some()) {
        labels.sort_by_key(|label| whole_number(label));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_by_size_and_texts_by_characters() {
        assert_eq!(sorted(BTreeSet::from(["10", "-1", "9"])), ["-1", "9", "10"]);
        assert_eq!(sorted(BTreeSet::from(["b10", "b9", "Z", "a"])), ["Z", "a", "b10", "b9"]);
        assert_eq!(sorted(BTreeSet::from(["10", "9", "x"])), ["10", "9", "x"]);
    }
}
