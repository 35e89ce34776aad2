//! `training`: loss, optimizer, schedule, adapters, checkpoints.

use super::{
    CLASSIFICATION, CLASSIFICATION_AND_REGRESSION, DPO, NOT_DPO, PRETRAINING, REGRESSION, WITHOUT_TOKEN_LOSS,
};
use crate::choices::{
    AttentionImplementation, LoraInit, LossFunction, Optimizer, Packing, ProblemType, SaveCheckpoint,
    Schedule,
};
use crate::declare::fields;
use crate::field::{Dependency, facets, is, is_filled, is_not};

/// The losses of each problem type. A model of encoder and decoder has its own.
const LOSSES: &[(ProblemType, &[&str])] = &[
    (ProblemType::CausalLanguageModeling, &["TokenAveragedCrossEntropy", "SampleAveragedCrossEntropy"]),
    (ProblemType::ContinuedPretraining, &["TokenAveragedCrossEntropy"]),
    (ProblemType::SequenceToSequenceModeling, &["TokenAveragedCrossEntropy", "SampleAveragedCrossEntropy"]),
    (ProblemType::CausalClassificationModeling, &["BinaryCrossEntropyLoss", "CrossEntropyLoss"]),
    (ProblemType::CausalRegressionModeling, &["MSELoss", "MAELoss"]),
    (
        ProblemType::DpoModeling,
        &[
            "DPOLoss",
            "DPOHingeLoss",
            "DPOIPOLoss",
            "KTOPairLoss",
            "CPOLoss",
            "SimPOLoss",
            "ORPOLoss",
            "KTOLoss",
        ],
    ),
];

const WITH_ADAM: &[Dependency] =
    &[is_not("optimizer", "SGD"), is_not("optimizer", "RMSprop"), is_not("optimizer", "Adadelta")];

const LEARNING_RATES: &[f64] = &[1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 3e-4, 5e-4];

fields! {
    /// Loss, optimizer, schedule, adapters, checkpoints.
    pub struct Training in "training" {
        /// What is made small. Token averaged: every learned token of a step counts the same. Sample averaged:
        /// every sample counts the same, however long its answer is. Classification: cross-entropy over classes
        /// that exclude each other, binary cross-entropy for yes or no. Regression: squared or absolute error.
        /// Preferences: how the better answer is set against the worse one; KTOLoss learns from single answers
        /// that `dataset.judgement_column` calls good or bad.
        loss_function: LossFunction = LossFunction::TokenAveragedCrossEntropy
            => facets().choice_grid().choices_for(LOSSES).default_for(&[
                (CLASSIFICATION, "BinaryCrossEntropyLoss"),
                (REGRESSION, "MSELoss"),
                (DPO, "DPOLoss"),
            ]);
        /// Preferences: how strongly the model may leave the one it starts from; larger stays closer. ORPO: what
        /// the preference weighs beside the better answer's own loss (its authors' λ).
        beta: f64 = 0.2
            => facets().above(0.0).slider(0.05, 1.0, 0.05).open_grid(&[0.1, 0.15, 0.2, 0.25, 0.4, 0.5])
                .not_for(NOT_DPO);
        /// SimPO: margin by which the better answer should win.
        simpo_gamma: f64 = 1.0
            => facets().at_least(0.0).slider(0.05, 2.0, 0.05)
                .open_grid(&[0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])
                .when(&[is("loss_function", "SimPOLoss")]).not_for(NOT_DPO);
        /// KTO on single answers: factor on the loss of good answers.
        kto_desirable_weight: f64 = 1.0
            => facets().at_least(0.0).slider(0.0, 4.0, 0.05).open_grid(&[1.0])
                .when(&[is("loss_function", "KTOLoss")]).not_for(NOT_DPO);
        /// KTO on single answers: factor on the loss of bad answers. With many more answers of one kind, lower the
        /// weight of that kind until weight times number is about the same for both.
        kto_undesirable_weight: f64 = 1.0
            => facets().at_least(0.0).slider(0.0, 4.0, 0.05).open_grid(&[1.0])
                .when(&[is("loss_function", "KTOLoss")]).not_for(NOT_DPO);
        /// Rule that turns gradients into weight changes. AdamW suits nearly everything. AdamW8bit is AdamW whose two
        /// moments take a byte each instead of four, with nearly the same course: six bytes less for each weight that
        /// is trained.
        optimizer: Optimizer = Optimizer::AdamW;
        /// Adam and AdamW: how much of the mean gradient each step keeps (β1).
        adam_beta1: f64 = 0.9
            => facets().at_least_below(0.0, 1.0).slider(0.8, 0.99, 0.01).when(WITH_ADAM);
        /// Adam and AdamW: how much of the mean squared gradient each step keeps (β2). Large batches and long runs often
        /// take 0.95.
        adam_beta2: f64 = 0.999
            => facets().at_least_below(0.0, 1.0).slider(0.9, 0.9999, 1e-4).open_grid(&[0.95, 0.98, 0.999]).when(WITH_ADAM);
        /// Adam and AdamW: added to the root of the mean squared gradient that a step is divided by (ε).
        adam_epsilon: f64 = 1e-8 => facets().above(0.0).spin(1e-12, 1e-9).when(WITH_ADAM);
        /// Step size at the top of the schedule. Adapters usually want 1e-5 to 5e-4, whole models ten times less.
        learning_rate: f64 = 1e-4 => facets().at_least(0.0).spin(1e-9, 1e-9).open_grid(LEARNING_RATES);
        /// Parts of the model that learn with `differential_learning_rate` instead: every weight whose name
        /// contains one of these texts. Empty: none.
        differential_learning_rate_layers: Vec<String> = Vec::new()
            => facets().suggest(&["backbone", "embed", "head"]).default_for(&[
                (CLASSIFICATION, "classification_head"),
                (REGRESSION, "regression_head"),
            ]);
        /// Learning rate of the layers named in `differential_learning_rate_layers`.
        differential_learning_rate: f64 = 1e-5
            => facets().at_least(0.0).spin(1e-9, 1e-9).open_grid(LEARNING_RATES)
                .when(&[is_filled("differential_learning_rate_layers")]);
        /// Weights that do not learn when the whole model is trained: every weight whose name contains one of
        /// these texts. Adapters freeze the backbone anyway.
        freeze_layers: Vec<String> = Vec::new()
            => facets().suggest(&["embed", "layer", "head"]).when(&[is("lora", "false")]);
        /// Which implementation of attention computes. All give the same numbers up to rounding.
        attention_implementation: AttentionImplementation = AttentionImplementation::Auto;
        /// Samples in one forward and backward pass. The optimizer sees `batch_size` times `grad_accumulation`.
        /// With packing `rows` or `wrapped` it counts rows of `max_length` tokens.
        batch_size: usize = 2
            => facets().at_least(1.0).slider(1.0, 256.0, 1.0).grid(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        /// Leaves out the last micro-batch of an epoch if it is not full. Switched off by itself when there are
        /// fewer samples than one batch.
        drop_last_batch: bool = true => facets().hidden();
        /// Passes over the training data. 0 only evaluates. A finished run goes on when it is resumed with more of them.
        epochs: usize = 1 => facets().at_least(0.0).slider(0.0, 10.0, 1.0).grid(&[1.0, 2.0, 4.0]);
        /// Optimizer steps of the run, in place of `epochs`: the data is gone through as often as they need, and the schedule
        /// ends with them. 0: as many as the epochs have.
        max_steps: usize = 0 => facets().at_least(0.0).spin(0.0, 1.0);
        /// How the learning rate develops after warm-up. It stays (Constant); falls along half a cosine (Cosine), several of
        /// them one after the other (CosineWithRestarts), a line (Linear) or its power (Polynomial); falls with the root
        /// of the steps, wherever the run ends (InverseSqrt); or stays and falls at the end only (WSD: warm-up, stable, decay).
        schedule: Schedule = Schedule::Cosine;
        /// Number of cosines of the schedule CosineWithRestarts.
        schedule_cycles: usize = 1
            => facets().at_least(1.0).slider(1.0, 10.0, 1.0).when(&[is("schedule", "CosineWithRestarts")]);
        /// Power of the schedule Polynomial: 1 is a line, 2 falls faster at first.
        schedule_power: f64 = 1.0
            => facets().above(0.0).slider(0.5, 4.0, 0.5).when(&[is("schedule", "Polynomial")]);
        /// Share of the run's optimizer steps over which the schedule WSD falls at the end, along half a cosine.
        schedule_decay_share: f64 = 0.1
            => facets().within(0.0, 1.0).slider(0.0, 0.5, 0.05).open_grid(&[0.1, 0.2]).when(&[is("schedule", "WSD")]);
        /// Where a falling schedule ends, as a share of `learning_rate`. 0 falls to nothing.
        min_learning_rate_ratio: f64 = 0.0
            => facets().within(0.0, 1.0).slider(0.0, 0.1, 1e-4).when(&[is_not("schedule", "Constant")]);
        /// Epochs, or a part of one, over which the learning rate rises from 0 to its value.
        warmup_epochs: f64 = 0.0 => facets().at_least(0.0).slider(0.0, 5.0, 0.05).open_grid(&[0.0, 0.25]);
        /// Pull of the weights towards 0 (weight decay). Biases are left out, and the weights of norms unless
        /// `weight_decay_norms` is on.
        weight_decay: f64 = 0.0 => facets().at_least(0.0).spin(0.0, 1e-5).open_grid(&[0.0, 0.01, 0.1, 0.2]);
        /// Decays the weights of RMS norms, too, as H2O LLM Studio does, which leaves out only names with `LayerNorm.weight`.
        /// Off, no norm decays, as in the trainer of transformers.
        weight_decay_norms: bool = false;
        /// Share of each label's probability that is spread evenly over all tokens of the vocabulary in the training loss (label
        /// smoothing). Validation is measured without. 0 switches it off.
        label_smoothing: f64 = 0.0
            => facets().at_least_below(0.0, 1.0).slider(0.0, 0.3, 0.01).open_grid(&[0.0, 0.05, 0.1])
                .not_for(WITHOUT_TOKEN_LOSS);
        /// Largest length of the gradient over all weights; a longer one is scaled down. 0 switches it off.
        gradient_clip: f64 = 0.0
            => facets().at_least(0.0).slider(0.0, 10.0, 0.1).open_grid(&[0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
                .default_for(&[(DPO, "10")]);
        /// Micro-batches whose gradients are added up before the optimizer takes a step: larger batches without
        /// more memory.
        grad_accumulation: usize = 1
            => facets().at_least(1.0).slider(1.0, 8.0, 1.0).open_grid(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
        /// Optimizer steps that may be left out because their loss or gradient is infinite or not a number: the weights stay as
        /// they are, and a warning names the rows. One more ends the run. 0 ends it at the first.
        max_skipped_steps: usize = 10 => facets().at_least(0.0).spin(0.0, 1.0);
        /// Trains small low-rank matrices beside the frozen weights instead of the weights themselves.
        lora: bool = true;
        /// Trains the lengths of an adapted weight's rows apart from their directions (DoRA), which is meant to come
        /// closer to training the whole weight at small ranks. Steps take somewhat longer.
        use_dora: bool = false => facets().when(&[is("lora", "true")]);
        /// Rank of the adapters: inner width of the two matrices. More can learn more and costs more memory.
        lora_r: usize = 4
            => facets().at_least(1.0).slider(1.0, 256.0, 1.0).grid(&[2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
                .when(&[is("lora", "true")]);
        /// Strength of the adapters: their output is multiplied with `lora_alpha` / `lora_r`.
        lora_alpha: usize = 16
            => facets().at_least(1.0).slider(1.0, 256.0, 1.0)
                .grid(&[4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]).when(&[is("lora", "true")]);
        /// Probability with which an input of an adapter is dropped while training.
        lora_dropout: f64 = 0.05
            => facets().at_least_below(0.0, 1.0).slider(0.0, 0.5, 0.01).when(&[is("lora", "true")]);
        /// Learning rate of the second matrix of each adapter (B) as a multiple of that of the first (A), and of single rows such
        /// as DoRA's lengths (LoRA+). 1: the same; its authors found 16 to learn faster.
        lora_plus_ratio: f64 = 1.0
            => facets().above(0.0).slider(1.0, 32.0, 1.0).open_grid(&[1.0, 4.0, 16.0]).when(&[is("lora", "true")]);
        /// Scales adapters with `lora_alpha` / √`lora_r`, which keeps high ranks stable.
        use_rslora: bool = false => facets().when(&[is("lora", "true")]);
        /// What the two matrices of an adapter start with. `default`: random numbers and zeros, so that training
        /// begins with the first only. `pissa`: the principal components of the weight (PiSSA), which often learn
        /// faster; the result is an adapter of twice the rank for the same model, and `lora_dropout` must be 0.
        lora_init: LoraInit = LoraInit::Default => facets().when(&[is("lora", "true")]);
        /// Names of the linear layers that get an adapter, separated by commas, for example `q_proj,v_proj`.
        /// Empty: all but the output head.
        lora_target_modules: String = String::new() => facets().when(&[is("lora", "true")]);
        /// Backbone weights that learn in full beside the adapters: every weight whose name contains one of these
        /// texts.
        lora_unfreeze_layers: Vec<String> = Vec::new()
            => facets().suggest(&["embed", "head"]).when(&[is("lora", "true")]);
        /// Which weights are kept: the `last`, those with the `best` validation metric, those at
        /// `each_evaluation_epoch`, or none (`disable`).
        save_checkpoint: SaveCheckpoint = SaveCheckpoint::Last;
        /// Optimizer steps between two checkpoints that stay beside those of `save_checkpoint`, as `checkpoints/step_N`. 0 writes
        /// none.
        save_steps: usize = 0 => facets().at_least(0.0).spin(0.0, 1.0);
        /// How many of the checkpoints `step_N` are kept, of `save_steps` and `each_evaluation_epoch`: the newest ones and, as one
        /// of them, that with the best validation metric; older ones are removed. The newest one always stays. 0 keeps all.
        save_total_limit: usize = 0 => facets().at_least(0.0).spin(0.0, 1.0);
        /// Epochs between two evaluations: 1 after each epoch, 0.25 four times an epoch.
        evaluation_epochs: f64 = 1.0 => facets().above(0.0).slider(0.01, 1.0, 0.01);
        /// Evaluations without a better validation metric after which the run ends (early stopping); 0: it does not. The result
        /// are the last weights, or with `save_checkpoint: best` the best ones.
        early_stopping_patience: usize = 0 => facets().at_least(0.0).slider(0.0, 10.0, 1.0);
        /// By how much the metric must be better than the best that counted, to count as better for early stopping.
        early_stopping_min_delta: f64 = 0.0
            => facets().at_least(0.0).spin(0.0, 1e-4).when(&[is_not("early_stopping_patience", "0")]);
        /// Evaluates once before the first step, to see where the model starts.
        evaluate_before_training: bool = false;
        /// Adds the validation rows to the training rows, for a last run once the settings are known. The
        /// validation numbers then say little.
        train_validation_data: bool = false;
        /// How samples fill a micro-batch. `samples`: `batch_size` of them end to end, no padding. `rows`:
        /// `batch_size` rows of `max_length` tokens, each filled with as many whole samples as fit. `wrapped`:
        /// everything end to end, cut every `max_length` tokens; attention runs across samples, as continued
        /// pre-training wants.
        packing: Packing = Packing::Samples
            => facets().not_for(CLASSIFICATION_AND_REGRESSION).default_for(&[(PRETRAINING, "wrapped")]);
        /// Visits the samples in a new random order each epoch; off, in table order.
        shuffle: bool = true;
        /// Seconds between two checkpoints from which an interrupted run can be resumed. 0: only at evaluations
        /// and at the end.
        checkpoint_interval_secs: f64 = 600.0 => facets().at_least(0.0).spin(0.0, 60.0);
        /// Optimizer steps between two such checkpoints. 0 switches this off.
        checkpoint_every_steps: usize = 0 => facets().at_least(0.0).spin(0.0, 1.0);
        /// Optimizer steps between two reports of loss, learning rate and speed.
        log_every_steps: usize = 1 => facets().at_least(1.0).spin(1.0, 1.0);
    }
}

impl Training {
    /// Whether a run takes no step and only evaluates.
    pub fn only_evaluates(&self) -> bool {
        self.epochs == 0 && self.max_steps == 0
    }
}
