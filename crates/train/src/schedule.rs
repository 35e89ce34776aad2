//! The learning rate as a factor of its base value: warm-up, then constant, linear or cosine.
//!
//! Steps are optimizer steps, counted from 0; the horizon is the number of optimizer steps of the whole run.
//! H2O LLM Studio advances its schedule once per micro-batch over a horizon of micro-batches: the curve has the
//! same shape here, but it does not change while gradients are being accumulated.

use tunesmith_config::Schedule;

/// Factor of the base learning rate for every optimizer step of a run.
///
/// With w warm-up steps (may be fractional), N steps in all and floor m:
///
/// - s < w: `s / max(1, w)`, whatever the shape;
/// - constant: `1` (the floor has no effect);
/// - linear: `max(m, (N - s) / max(1, N - w))`;
/// - cosine: `max(m, (1 + cos(π (s - w) / max(1, N - w))) / 2)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRateSchedule {
    shape: Schedule,
    warmup_steps: f64,
    n_steps: u64,
    floor: f64,
}

impl LearningRateSchedule {
    /// A schedule over `n_steps` optimizer steps that rises during the first `warmup_steps` and, unless it is
    /// constant, falls no lower than `floor` afterwards.
    pub fn new(shape: Schedule, warmup_steps: f64, n_steps: u64, floor: f64) -> Self {
        Self { shape, warmup_steps, n_steps, floor }
    }

    /// The factor in force at the optimizer step `step`, counted from 0. Steps past the horizon have its factor.
    pub fn factor(&self, step: u64) -> f64 {
        let step = step.min(self.n_steps) as f64;
        let n_steps = self.n_steps as f64;
        if step < self.warmup_steps {
            return step / self.warmup_steps.max(1.0);
        }
        let falling_steps = (n_steps - self.warmup_steps).max(1.0);
        match self.shape {
            Schedule::Constant => 1.0,
            Schedule::Linear => self.floor.max((n_steps - step) / falling_steps),
            Schedule::Cosine => {
                let done = (step - self.warmup_steps) / falling_steps;
                self.floor.max(0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: Schedule, warmup_steps: f64, n_steps: u64, floor: f64, expected: &[f64], tolerance: f64) {
        let schedule = LearningRateSchedule::new(shape, warmup_steps, n_steps, floor);
        for (step, want) in expected.iter().enumerate() {
            let got = schedule.factor(step as u64);
            assert!((got - want).abs() <= tolerance, "{schedule:?} at step {step}: {got}, expected {want}");
        }
    }

    #[test]
    fn gv_4_4_schedules() {
        let cosine_warm = [0., 0.5, 1., 0.96194, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.03806, 0.];
        check(Schedule::Cosine, 2.0, 10, 0.0, &cosine_warm, 1e-6);
        let cosine_floor =
            [1., 0.975528, 0.904508, 0.793893, 0.654508, 0.5, 0.345492, 0.206107, 0.1, 0.1, 0.1];
        check(Schedule::Cosine, 0.0, 10, 0.1, &cosine_floor, 1e-6);
        let linear = [0., 0.5, 1., 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.];
        check(Schedule::Linear, 2.0, 10, 0.0, &linear, 1e-12);
        check(Schedule::Cosine, 2.5, 10, 0.0, &[0., 0.4, 0.8, 0.989074, 0.904508, 0.75], 1e-6);
    }

    #[test]
    fn curves_of_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/schedules.json");
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 15);
        for case in cases {
            let shape = match case["schedule"].as_str().unwrap() {
                "constant" => Schedule::Constant,
                "linear" => Schedule::Linear,
                "cosine" => Schedule::Cosine,
                other => panic!("unknown schedule {other}"),
            };
            let factors: Vec<f64> =
                case["factors"].as_array().unwrap().iter().map(|f| f.as_f64().unwrap()).collect();
            let warmup_steps = case["warmup"].as_f64().unwrap();
            let n_steps = case["total"].as_u64().unwrap();
            check(shape, warmup_steps, n_steps, case["floor"].as_f64().unwrap(), &factors, 1e-12);
        }
    }

    #[test]
    fn steps_past_the_horizon_stay_at_its_factor() {
        let schedule = LearningRateSchedule::new(Schedule::Cosine, 0.0, 4, 0.25);
        assert_eq!(schedule.factor(4), 0.25);
        assert_eq!(schedule.factor(7), 0.25);
    }
}
