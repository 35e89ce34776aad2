//! The learning rate as a factor of its base value: warm-up, and what comes after it.
//!
//! Steps are optimizer steps, counted from 0; the horizon is the number of optimizer steps of the whole run.
//! H2O LLM Studio advances its schedule once per micro-batch over a horizon of micro-batches: the curve has the
//! same shape here, but it does not change while gradients are being accumulated.

use std::f64::consts::PI;

use tunesmith_config::{Schedule, Training};

/// Factor of the base learning rate for every optimizer step of a run.
///
/// With w warm-up steps (may be fractional), N steps in all, floor m, and t = (s - w) / max(1, N - w) the share of the way after
/// warm-up:
///
/// - s < w: `s / max(1, w)`, whatever the shape, except that warm-up, stable, decay rises from m instead of 0;
/// - constant: `1` (the floor has no effect);
/// - linear: `max(m, 1 - t)`;
/// - cosine: `max(m, (1 + cos πt) / 2)`;
/// - cosine with k restarts: `max(m, (1 + cos(π (kt mod 1))) / 2)`, and m from the end on;
/// - polynomial of power p: `m + (1 - m) (1 - t)ᵖ`;
/// - inverse square root: `max(m, √(T / (s - w + T)))` with T = w, or 10 000 without warm-up; N has no effect;
/// - warm-up, stable, decay with d steps of decay: 1 until N - d, then `m + (1 - m) (1 + cos(π (s - N + d) / d)) / 2`.
///
/// The last four are those of transformers, whose floors for polynomials (`lr_end`) and decays (`min_lr_ratio`) are these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRateSchedule {
    shape: Shape,
    warmup_steps: f64,
    n_steps: u64,
    floor: f64,
}

/// What comes after warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Constant,
    Linear,
    Cosine,
    CosineWithRestarts { n_cycles: f64 },
    Polynomial { power: f64 },
    InverseSqrt { timescale: f64 },
    StableThenDecay { decay_steps: f64 },
}

impl LearningRateSchedule {
    /// The schedule of a configuration over `n_steps` optimizer steps that rises during the first `warmup_steps`.
    pub fn of(training: &Training, warmup_steps: f64, n_steps: u64) -> Self {
        const TIMESCALE_WITHOUT_WARMUP: f64 = 10_000.0;
        let shape = match training.schedule {
            Schedule::Constant => Shape::Constant,
            Schedule::Linear => Shape::Linear,
            Schedule::Cosine => Shape::Cosine,
            Schedule::CosineWithRestarts => {
                Shape::CosineWithRestarts { n_cycles: training.schedule_cycles as f64 }
            }
            Schedule::Polynomial => Shape::Polynomial { power: training.schedule_power },
            Schedule::InverseSqrt => Shape::InverseSqrt {
                timescale: if warmup_steps > 0.0 { warmup_steps } else { TIMESCALE_WITHOUT_WARMUP },
            },
            Schedule::Wsd => {
                Shape::StableThenDecay { decay_steps: training.schedule_decay_share * n_steps as f64 }
            }
        };
        Self { shape, warmup_steps, n_steps, floor: training.min_learning_rate_ratio }
    }

    /// The factor in force at the optimizer step `step`, counted from 0. Steps past the horizon have its factor.
    pub fn factor(&self, step: u64) -> f64 {
        let step = step.min(self.n_steps) as f64;
        let n_steps = self.n_steps as f64;
        let above_floor = |factor: f64| self.floor + (1.0 - self.floor) * factor;
        if step < self.warmup_steps {
            let risen = step / self.warmup_steps.max(1.0);
            return if matches!(self.shape, Shape::StableThenDecay { .. }) {
                above_floor(risen)
            } else {
                risen
            };
        }
        let since_warmup = step - self.warmup_steps;
        let falling_steps = (n_steps - self.warmup_steps).max(1.0);
        let done = since_warmup / falling_steps;
        let half_cosine = |done: f64| 0.5 * (1.0 + (PI * done).cos());
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Linear => self.floor.max((n_steps - step) / falling_steps),
            Shape::Cosine => self.floor.max(half_cosine(done)),
            Shape::CosineWithRestarts { .. } if done >= 1.0 => self.floor,
            Shape::CosineWithRestarts { n_cycles } => self.floor.max(half_cosine((n_cycles * done).fract())),
            Shape::Polynomial { power } => above_floor((1.0 - done).max(0.0).powf(power)),
            Shape::InverseSqrt { timescale } => {
                self.floor.max((timescale / (since_warmup + timescale)).sqrt())
            }
            Shape::StableThenDecay { decay_steps } => {
                let decay_steps = decay_steps.min(falling_steps);
                let decayed = step - (n_steps - decay_steps);
                match decayed > 0.0 {
                    true => above_floor(half_cosine((decayed / decay_steps).min(1.0))),
                    false => 1.0,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schedule: Schedule, warmup_steps: f64, n_steps: u64, floor: f64) -> LearningRateSchedule {
        let training = Training { schedule, min_learning_rate_ratio: floor, ..Training::default() };
        LearningRateSchedule::of(&training, warmup_steps, n_steps)
    }

    fn check(shape: Schedule, warmup_steps: f64, n_steps: u64, floor: f64, expected: &[f64], tolerance: f64) {
        let schedule = of(shape, warmup_steps, n_steps, floor);
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
    fn curves_of_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/schedules.json");
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = golden["transformers"].as_array().unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let n_steps = case["total"].as_u64().unwrap();
            let setting = |name: &str| case["settings"][name].as_f64();
            let schedule = match case["schedule"].as_str().unwrap() {
                "cosine_with_restarts" => Schedule::CosineWithRestarts,
                "polynomial" => Schedule::Polynomial,
                "inverse_sqrt" => Schedule::InverseSqrt,
                "warmup_stable_decay" => Schedule::Wsd,
                other => panic!("unknown schedule {other}"),
            };
            let training = Training {
                schedule,
                schedule_cycles: setting("num_cycles").unwrap_or(1.0) as usize,
                schedule_power: setting("power").unwrap_or(1.0),
                schedule_decay_share: setting("num_decay_steps").unwrap_or(0.0) / n_steps as f64,
                min_learning_rate_ratio: setting("lr_end").or(setting("min_lr_ratio")).unwrap_or(0.0),
                ..Training::default()
            };
            let warmup_steps = case["warmup"].as_f64().unwrap();
            let curve = LearningRateSchedule::of(&training, warmup_steps, n_steps);
            for (step, want) in case["factors"].as_array().unwrap().iter().enumerate() {
                let (got, want) = (curve.factor(step as u64), want.as_f64().unwrap());
                assert!((got - want).abs() <= 1e-12, "{curve:?} at step {step}: {got}, expected {want}");
            }
        }
    }

    #[test]
    fn a_decay_longer_than_the_run_begins_after_warm_up_and_none_is_constant() {
        let of_share = |schedule_decay_share| {
            let training = Training { schedule: Schedule::Wsd, schedule_decay_share, ..Training::default() };
            LearningRateSchedule::of(&training, 2.0, 10)
        };
        let long = of_share(1.0);
        assert_eq!((long.factor(2), long.factor(6)), (1.0, 0.5));
        assert!(long.factor(10).abs() < 1e-15);
        assert_eq!((of_share(0.0).factor(2), of_share(0.0).factor(10)), (1.0, 1.0));
    }

    #[test]
    fn steps_past_the_horizon_stay_at_its_factor() {
        let schedule = of(Schedule::Cosine, 0.0, 4, 0.25);
        assert_eq!(schedule.factor(4), 0.25);
        assert_eq!(schedule.factor(7), 0.25);
    }
}
