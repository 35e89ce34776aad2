//! How many micro-batches, windows and optimizer steps a run has, and after which windows it is evaluated.

use std::ops::Range;

use tunesmith_config::Training;

/// The run's length, known before its first step.
///
/// A window is the micro-batches behind one optimizer step: `grad_accumulation` of them, fewer at the end of an epoch.
/// No window spans two epochs and none is dropped. (H2O LLM Studio steps after the first micro-batch of a group, lets an
/// epoch's rest leak into the next and loses the last one.)
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan {
    /// Of whole epochs; of the last one a part may be run.
    micro_batches: Vec<usize>,
    grad_accumulation: usize,
    evaluation_epochs: f64,
    /// 0: as many as the epochs have.
    max_steps: u64,
}

impl RunPlan {
    /// A plan for epochs of `micro_batches` micro-batches each, accumulated `grad_accumulation` (at least 1) at a time,
    /// and evaluated every `evaluation_epochs` epochs.
    pub fn new(micro_batches: Vec<usize>, grad_accumulation: usize, evaluation_epochs: f64) -> Self {
        Self { micro_batches, grad_accumulation: grad_accumulation.max(1), evaluation_epochs, max_steps: 0 }
    }

    /// The plan of a configuration, given the micro-batches of the epoch with each index: of `epochs` epochs, or of as many as
    /// `max_steps` optimizer steps need, the last of which may be cut short.
    ///
    /// # Errors
    /// Those of `length_of`.
    pub fn of<E>(
        training: &Training,
        mut length_of: impl FnMut(usize) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let max_steps = training.max_steps as u64;
        let mut plan = Self::new(Vec::new(), training.grad_accumulation, training.evaluation_epochs);
        loop {
            let epoch_idx = plan.n_epochs();
            let is_long_enough = match max_steps {
                0 => epoch_idx == training.epochs,
                max_steps => max_steps <= plan.n_steps(),
            };
            if is_long_enough {
                break;
            }
            let n_micro_batches = length_of(epoch_idx)?;
            plan.micro_batches.push(n_micro_batches);
            if max_steps > 0 && n_micro_batches == 0 {
                // Nor will the others have any.
                break;
            }
        }
        Ok(Self { max_steps, ..plan })
    }

    /// Epochs planned, the last of which may be cut short.
    pub fn n_epochs(&self) -> usize {
        self.micro_batches.len()
    }

    /// Micro-batches planned.
    pub fn n_micro_batches(&self) -> u64 {
        let mut n_steps_left = self.n_steps();
        let mut n_micro_batches = 0;
        for (epoch_idx, length) in self.micro_batches.iter().enumerate() {
            let of_steps = n_steps_left.saturating_mul(self.grad_accumulation as u64);
            n_micro_batches += of_steps.min(*length as u64);
            n_steps_left = n_steps_left.saturating_sub(self.steps_of(epoch_idx));
        }
        n_micro_batches
    }

    /// How often the data is gone through, a part of an epoch included.
    pub fn n_whole_epochs(&self) -> f64 {
        let of_epochs = self.steps_before(self.n_epochs()).max(1);
        self.n_epochs() as f64 * self.n_steps() as f64 / of_epochs as f64
    }

    /// Optimizer steps planned.
    pub fn n_steps(&self) -> u64 {
        let of_epochs = self.steps_before(self.n_epochs());
        if self.max_steps > 0 { of_epochs.min(self.max_steps) } else { of_epochs }
    }

    /// Optimizer steps of the whole epoch `epoch_idx`.
    fn steps_of(&self, epoch_idx: usize) -> u64 {
        self.micro_batches_of(epoch_idx).div_ceil(self.grad_accumulation) as u64
    }

    /// Optimizer steps of the whole epochs before `epoch_idx`.
    fn steps_before(&self, epoch_idx: usize) -> u64 {
        (0..epoch_idx).map(|epoch_idx| self.steps_of(epoch_idx)).sum()
    }

    /// Warm-up in optimizer steps for `warmup_epochs`, which may be a fraction.
    pub fn warmup_steps(&self, warmup_epochs: f64) -> f64 {
        if self.micro_batches.is_empty() {
            return 0.0;
        }
        warmup_epochs * self.steps_before(self.n_epochs()) as f64 / self.n_epochs() as f64
    }

    /// Micro-batches of the whole epoch `epoch_idx`, from 0.
    pub fn micro_batches_of(&self, epoch_idx: usize) -> usize {
        self.micro_batches.get(epoch_idx).copied().unwrap_or(0)
    }

    /// The window that begins at `micro_batch_idx` of the epoch `epoch_idx`.
    pub fn window_at(&self, epoch_idx: usize, micro_batch_idx: usize) -> Range<usize> {
        let end = (micro_batch_idx + self.grad_accumulation).min(self.micro_batches_of(epoch_idx));
        micro_batch_idx..end
    }

    /// Whether the model is evaluated after `window` of the epoch `epoch_idx`: after every
    /// `max(⌊micro-batches of the epoch × evaluation_epochs⌋, 1)` micro-batches, counted anew in each epoch, and at the
    /// very end. A point inside a window moves to the window's end, where the weights have taken in all of it.
    pub fn is_evaluated_after(&self, epoch_idx: usize, window: &Range<usize>) -> bool {
        let n_micro_batches = self.micro_batches_of(epoch_idx);
        let every = ((n_micro_batches as f64 * self.evaluation_epochs).floor() as usize).max(1);
        let is_due = window.end / every > window.start / every;
        is_due || self.is_last(epoch_idx, window)
    }

    /// Whether `window` of the epoch `epoch_idx` is the run's last.
    pub fn is_last(&self, epoch_idx: usize, window: &Range<usize>) -> bool {
        let step = self.steps_before(epoch_idx) + window.end.div_ceil(self.grad_accumulation) as u64;
        step == self.n_steps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All windows of a plan with whether each is evaluated.
    fn walk(plan: &RunPlan) -> Vec<(usize, Range<usize>, bool)> {
        let mut windows = Vec::new();
        for epoch_idx in 0..plan.n_epochs() {
            let mut next = 0;
            while next < plan.micro_batches_of(epoch_idx) {
                let window = plan.window_at(epoch_idx, next);
                next = window.end;
                let is_evaluated = plan.is_evaluated_after(epoch_idx, &window);
                windows.push((epoch_idx, window, is_evaluated));
            }
        }
        windows
    }

    #[test]
    fn gv_4_2_last_windows_are_shorter_and_not_lost() {
        let plan = RunPlan::new(vec![10, 10], 4, 1.0);
        let lengths: Vec<usize> = walk(&plan).iter().map(|(_, window, _)| window.len()).collect();
        assert_eq!(lengths, [4, 4, 2, 4, 4, 2]);
        assert_eq!((plan.n_steps(), plan.n_micro_batches()), (6, 20));
        assert_eq!(plan.warmup_steps(0.5), 1.5);
    }

    #[test]
    fn epochs_may_differ_in_length() {
        let plan = RunPlan::new(vec![3, 5], 2, 1.0);
        assert_eq!(walk(&plan).len() as u64, plan.n_steps());
        assert_eq!(plan.n_steps(), 5);
    }

    /// There the number is assumed to be floor(epochs / evaluation_epochs), which loses one in floating point for 0.1. Here
    /// evaluations are those of the plan, with one at the end.
    #[test]
    fn gv_11_3_evaluations_are_counted_by_the_plan() {
        let n_evaluations = |n_epochs: usize, evaluation_epochs| {
            let plan = RunPlan::new(vec![100; n_epochs], 1, evaluation_epochs);
            walk(&plan).into_iter().filter(|(_, _, due)| *due).count()
        };
        assert_eq!(n_evaluations(1, 1.0), 1);
        assert_eq!(n_evaluations(2, 0.5), 4);
        assert_eq!(n_evaluations(1, 0.3), 3 + 1);
        assert_eq!(n_evaluations(1, 0.1), 10);
    }

    #[test]
    fn gv_4_2_evaluation_cadence_floors_and_the_end_is_evaluated() {
        let evaluated = |n_micro_batches, evaluation_epochs| -> Vec<usize> {
            let plan = RunPlan::new(vec![n_micro_batches], 1, evaluation_epochs);
            walk(&plan).into_iter().filter(|(_, _, due)| *due).map(|(_, window, _)| window.end).collect()
        };
        assert_eq!(evaluated(100, 0.3), [30, 60, 90, 100]);
        assert_eq!(evaluated(100, 1.0), [100]);
        assert_eq!(evaluated(5, 0.01), [1, 2, 3, 4, 5]);
        assert_eq!(evaluated(100, 0.5), [50, 100]);
    }

    #[test]
    fn a_point_inside_a_window_moves_to_its_end_and_counting_starts_anew_in_each_epoch() {
        let plan = RunPlan::new(vec![10, 10], 4, 0.3);
        let ends: Vec<(usize, usize)> = walk(&plan)
            .into_iter()
            .filter(|(_, _, due)| *due)
            .map(|(epoch, window, _)| (epoch, window.end))
            .collect();
        assert_eq!(ends, [(0, 4), (0, 8), (0, 10), (1, 4), (1, 8), (1, 10)]);
        let once = RunPlan::new(vec![10, 10], 4, 1.0);
        let ends: Vec<(usize, usize)> = walk(&once)
            .into_iter()
            .filter(|(_, _, due)| *due)
            .map(|(epoch, window, _)| (epoch, window.end))
            .collect();
        assert_eq!(ends, [(0, 10), (1, 10)]);
    }

    /// The plan of these settings over epochs of 10 micro-batches.
    fn plan_of(epochs: usize, max_steps: usize, grad_accumulation: usize) -> RunPlan {
        let training =
            Training { epochs, max_steps, grad_accumulation, evaluation_epochs: 0.5, ..Training::default() };
        RunPlan::of(&training, |_| Ok::<_, ()>(10)).unwrap()
    }

    #[test]
    fn a_number_of_steps_wins_over_epochs() {
        // Windows of 4, 4 and 2.
        let plan = plan_of(1, 7, 4);
        assert_eq!((plan.n_epochs(), plan.n_steps(), plan.n_micro_batches()), (3, 7, 24));
        // An epoch has three steps, also where the last one is cut short.
        assert_eq!(plan.warmup_steps(1.0), 3.0);
        assert!(plan.is_last(2, &(0..4)) && !plan.is_last(1, &(8..10)) && !plan.is_last(2, &(4..8)));
        assert!(plan.is_evaluated_after(2, &(0..4)), "the end is evaluated");
        assert!(!plan.is_evaluated_after(1, &(0..4)), "evaluations are counted over whole epochs");
        let fewer = plan_of(5, 2, 4);
        assert_eq!((fewer.n_epochs(), fewer.n_steps(), fewer.n_micro_batches()), (1, 2, 8));
        let exact = plan_of(0, 6, 4);
        assert_eq!((exact.n_epochs(), exact.n_steps(), exact.n_micro_batches()), (2, 6, 20));
        assert_eq!(plan_of(2, 0, 4), RunPlan::new(vec![10, 10], 4, 0.5));
        let empty = RunPlan::of(&Training { max_steps: 3, ..Training::default() }, |_| Ok::<_, ()>(0));
        assert_eq!(empty.unwrap().n_steps(), 0);
    }

    #[test]
    fn no_epochs_no_steps() {
        let plan = RunPlan::new(Vec::new(), 4, 1.0);
        assert_eq!((plan.n_epochs(), plan.n_steps(), plan.warmup_steps(1.0)), (0, 0, 0.0));
    }
}
