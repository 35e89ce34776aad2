//! Random changes of training data in whole runs: they change training, not validation; they belong to samples, not to
//! batches; and a resumed run draws them again.

use std::fmt::Write as _;

use tunesmith_config::ExperimentConfig;
use tunesmith_train::{EventBody, NoObserver, StopFlag, TrainError, run};

use crate::resuming::check_resuming;
use crate::support::{Bench, losses};

/// A strong dose of each.
const EACH: [(&str, &str); 4] = [
    ("augmentation.token_mask_probability", "0.3"),
    ("augmentation.skip_parent_probability", "0.5"),
    ("augmentation.random_parent_probability", "0.5"),
    ("augmentation.neftune_noise_alpha", "30"),
];
/// All samples in one window, in whatever micro-batches.
const ONE_WINDOW: [(&str, &str); 4] = [
    ("training.lora_dropout", "0"),
    ("training.drop_last_batch", "false"),
    ("training.grad_accumulation", "100"),
    ("training.warmup_epochs", "0"),
];
const CONVERSATIONS: [(&str, &str); 4] = [
    // Both rounds fit.
    ("tokenizer.max_length", "128"),
    ("dataset.id_column", "id"),
    ("dataset.parent_id_column", "parent"),
    ("dataset.limit_chained_samples", "true"),
];

/// A table of 12 conversations of two rounds.
fn with_conversations() -> Bench {
    let bench = Bench::new();
    let mut text = "id,parent,instruction,output\n".to_owned();
    for row in 0..24 {
        let parent = if row % 2 == 1 { format!("n{}", row - 1) } else { String::new() };
        writeln!(text, "n{row},{parent},Count to {row}.,{}", row + 1).unwrap();
    }
    std::fs::write(bench.path("rows.csv"), text).unwrap();
    bench
}

/// Training losses, and losses of the evaluations.
fn figures(bench: &Bench, name: &str, changes: &[(&str, &str)]) -> (Vec<f64>, Vec<f64>) {
    bench.run(name, changes).unwrap();
    let events = bench.events(name);
    let evaluation = |body: &EventBody| match body {
        EventBody::Evaluation(evaluation) => Some(evaluation.loss),
        _ => None,
    };
    (losses(&events), events.iter().filter_map(|event| evaluation(&event.body)).collect())
}

fn joined<'a>(parts: &[&[(&'a str, &'a str)]]) -> Vec<(&'a str, &'a str)> {
    parts.concat()
}

#[test]
fn training_changes_and_validation_does_not() {
    let bench = with_conversations();
    // With a rate of 0 only the random changes can make a difference between epochs.
    let still = [("training.learning_rate", "0"), ("training.lora_dropout", "0"), ("training.epochs", "2")];
    let base = joined(&[&CONVERSATIONS, &ONE_WINDOW, &still]);
    let (plain, validation) = figures(&bench, "plain", &base);
    assert!((plain[0] - plain[1]).abs() < 1e-6, "{plain:?}");
    for (idx, change) in EACH.iter().enumerate() {
        let (changed, same) = figures(&bench, &idx.to_string(), &joined(&[&base, &[*change]]));
        assert!((changed[0] - plain[0]).abs() > 1e-4, "{change:?}: {changed:?} {plain:?}");
        assert!((changed[0] - changed[1]).abs() > 1e-4, "{change:?} is the same in both epochs: {changed:?}");
        assert_eq!(same, validation, "{change:?}");
    }
}

#[test]
fn changes_belong_to_samples_however_they_are_batched() {
    let bench = with_conversations();
    let base = joined(&[&CONVERSATIONS, &ONE_WINDOW, &EACH]);
    let (single, _) = figures(&bench, "single", &joined(&[&base, &[("training.batch_size", "1")]]));
    let rows = [("training.packing", "rows"), ("training.batch_size", "3")];
    let (packed, _) = figures(&bench, "packed", &joined(&[&base, &rows]));
    let worst = single.iter().zip(&packed).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("worst difference of losses {worst:e}");
    assert!(single.len() == packed.len() && worst < 2e-4, "{single:?} {packed:?}");
}

#[test]
fn a_killed_run_draws_its_changes_again() {
    let often = [("training.checkpoint_every_steps", "1")];
    check_resuming(&with_conversations(), &joined(&[&CONVERSATIONS, &EACH, &often]), &[2, 5, 9]);
}

#[test]
fn preferences_and_numbers_take_the_noise() {
    let bench = Bench::new();
    let rows = "text,good,bad,size\n".to_owned()
        + &(0..20).map(|row| format!("say {row},{row},{},0.{row}\n", row + 1)).collect::<String>();
    std::fs::write(bench.path("rows.csv"), rows).unwrap();
    let config = |alpha: &str, more: &[(&str, &str)]| -> ExperimentConfig {
        let mut config = bench.config(&[("dataset.prompt_column", "text"), ("training.epochs", "1")]);
        for (field, value) in more.iter().chain(&[("augmentation.neftune_noise_alpha", alpha)]) {
            config.set(field, value).unwrap();
        }
        config
    };
    let preferences = [
        ("problem_type", "text_dpo_modeling"),
        ("dataset.answer_column", "good"),
        ("dataset.rejected_answer_column", "bad"),
        ("training.loss_function", "DPOLoss"),
    ];
    let numbers = [
        ("problem_type", "text_causal_regression_modeling"),
        ("dataset.answer_column", "size"),
        ("training.loss_function", "MSELoss"),
        ("prediction.metric", "MSE"),
    ];
    for (what, more) in [("preferences", &preferences), ("numbers", &numbers)] {
        let first_loss = |alpha: &str| -> Result<f64, TrainError> {
            let name = format!("{what}-{alpha}");
            run(&bench.request(&name, config(alpha, more)), &mut NoObserver, &StopFlag::new())?;
            Ok(losses(&bench.events(&name))[0])
        };
        let (without, with) = (first_loss("0").unwrap(), first_loss("30").unwrap());
        assert!((without - with).abs() > 1e-4, "{what}: {without} {with}");
        if what == "preferences" {
            // The reference is the model without noise, so that the pairs differ from it before the first step.
            assert!((without - std::f64::consts::LN_2).abs() < 0.02, "{without}");
        }
    }
}
