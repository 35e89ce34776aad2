//! Going on beyond the end that a run was planned with: `--resume` with more epochs or steps.
//!
//! The run continues from its newest checkpoint, which has the optimizer's state. The schedule is that of the new length from
//! here on: a learning rate that had fallen to nothing rises to where the longer curve is at this step, as it does in the
//! trainer of transformers. The steps before were taken with the shorter curve, so the result is not that of a run that had
//! this length from the start; with a constant rate it is.

use crate::checkpoint::FoundCheckpoint;
use crate::error::TrainError;
use crate::event_log::planned_steps;
use crate::events::RunExtended;
use crate::plan::RunPlan;
use crate::run_folder::RunFolder;

/// What is new about the plan of a run that is resumed from `found`; `None` when it has as many steps as before. `goes_on` says
/// whether it has come to its end before.
///
/// # Errors
/// [`TrainError::Changed`] when it would get shorter, and [`TrainError::NothingToGoOn`] when it is to go on and has no step
/// left.
pub(crate) fn extension(
    folder: &RunFolder,
    found: &FoundCheckpoint,
    plan: &RunPlan,
    goes_on: bool,
) -> Result<Option<RunExtended>, TrainError> {
    let (step, n_steps) = (found.state.step, plan.n_steps());
    let path = folder.root().to_owned();
    let planned = planned_steps(&folder.events(), found.state.events_bytes)?.unwrap_or(n_steps);
    if n_steps < planned {
        let text =
            format!("the number of steps (was {planned}, is {n_steps}): a run can be made longer only");
        return Err(TrainError::Changed { path, differences: vec![text] });
    }
    if goes_on && n_steps <= step {
        let reason = format!("it has taken all of its {n_steps} steps");
        return Err(TrainError::NothingToGoOn { path, reason });
    }
    Ok((planned < n_steps).then(|| RunExtended {
        step,
        n_epochs: plan.n_epochs(),
        n_micro_batches: plan.n_micro_batches(),
        n_steps,
    }))
}
