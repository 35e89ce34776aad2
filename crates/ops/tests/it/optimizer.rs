use std::path::Path;

use serde_json::Value;
use tunesmith_ops::{Device, Rule, State, Tensor, TensorData, sum_of_squares, update, update_composed};

use crate::compare::{random, to_vec, worst_difference};

type Update = fn(&Rule, f32, u64, Tensor<1>, Tensor<1>, State) -> (Tensor<1>, State);

fn vector(values: &[f32]) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// The rules of the golden file with their settings.
fn rules(weight_decay: f64) -> [(&'static str, Rule); 5] {
    let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
    [
        ("adamw", Rule::AdamW { beta1, beta2, eps, weight_decay }),
        ("adam", Rule::Adam { beta1, beta2, eps, weight_decay }),
        ("sgd", Rule::Sgd { momentum: 0.9, nesterov: true, weight_decay }),
        ("rmsprop", Rule::RmsProp { alpha: 0.9, momentum: 0.9, eps, weight_decay }),
        ("adadelta", Rule::Adadelta { rho: 0.9, eps: 1e-6, weight_decay }),
    ]
}

#[test]
fn every_rule_follows_pytorch_step_by_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/optimizers.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let lr = golden["lr"].as_f64().unwrap() as f32;
    let gradients: Vec<Vec<f32>> = golden["grads"].as_array().unwrap().iter().map(floats).collect();
    for (name, rule) in rules(golden["weight_decay"].as_f64().unwrap()) {
        for (way, update) in [("fused", update as Update), ("composed", update_composed as Update)] {
            let mut parameter = vector(&floats(&golden["params"]));
            let mut state = rule.initial_state(&parameter);
            let mut worst = 0.0_f32;
            for (step, gradient) in gradients.iter().enumerate() {
                (parameter, state) = update(&rule, lr, step as u64 + 1, parameter, vector(gradient), state);
                let want = floats(&golden["rules"][name]["after"][step]);
                worst = worst.max(worst_difference(&to_vec(&parameter), &want));
            }
            println!("{way} {name}: worst difference {worst:.2e}");
            assert!(worst < 2e-6, "{way} {name}: worst difference {worst:.2e}");
        }
    }
}

#[test]
fn a_shared_parameter_is_not_changed_behind_its_owners_back() {
    let parameter = vector(&random(100, 1));
    let before = to_vec(&parameter);
    for (_, rule) in rules(0.1) {
        let state = rule.initial_state(&parameter);
        let (changed, _) = update(&rule, 0.1, 1, parameter.clone(), vector(&random(100, 2)), state);
        assert_eq!(to_vec(&parameter), before);
        assert_ne!(to_vec(&changed), before);
    }
}

#[test]
fn tracked_tensors_leave_their_graph() {
    let parameter = vector(&random(10, 1)).autodiff().require_grad();
    let rule = rules(0.0)[0].1;
    let state = rule.initial_state(&parameter);
    let (changed, _) = update(&rule, 0.1, 1, parameter.clone(), vector(&random(10, 2)), state);
    assert!(!changed.is_autodiff());
    assert!((sum_of_squares(&parameter) - sum_of_squares(&parameter.inner())).abs() == 0.0);
}

#[test]
fn sums_of_squares_are_taken_in_double_precision() {
    // In single precision the small terms would vanish beside the first.
    let mut values = vec![1e-3; 100_000];
    values[0] = 1e4;
    let want = 1e8 + 99_999.0 * f64::from(1e-3_f32).powi(2);
    assert!((sum_of_squares(&vector(&values)) - want).abs() < 1e-4);
}
