//! A run on a graphics processor against the same run on the CPU: losses, and the result loaded on the CPU.
//!
//! One test for each backend, so that its shaders are compiled once.

use tunesmith_models::{CausalLm, TokenBatch, read_back};
use tunesmith_ops::{Device, Segments, open_device};
use tunesmith_train::{RunWeights, SavedRun};

use crate::on_device::on_each_device;
use crate::support::{Bench, losses};

on_each_device!(a_run_follows_that_on_the_cpu);

fn a_run_follows_that_on_the_cpu(name: &str, _: &Device) {
    let bench = Bench::new();
    let mut curves = Vec::new();
    for (device, is_lora) in [("cpu", "true"), (name, "true"), ("cpu", "false"), (name, "false")] {
        let run = format!("{device}-{is_lora}");
        bench
            .run(
                &run,
                &[
                    ("environment.device", device),
                    ("training.lora", is_lora),
                    ("training.epochs", "1"),
                    ("training.learning_rate", "0.003"),
                ],
            )
            .unwrap();
        curves.push(losses(&bench.events(&run)));
        // What was trained there loads here, and the other way round.
        let saved = SavedRun::open(&bench.path(&run), None).unwrap();
        let [here, there] =
            ["cpu", name].map(|on| saved.model(&RunWeights::Result, &open_device(on).unwrap()).unwrap());
        let worst = worst_logit_difference(&here, &there);
        println!("{run}: logits on the CPU and on {name} differ by {worst:.1e} at most");
        assert!(worst < 1e-4, "{worst}");
    }
    let worst = worst_in_default_formats(name, &bench);
    println!(
        "{name}: narrow formats where the device has them, worst relative difference of a loss {worst:.1e}"
    );
    assert!(worst < 0.02, "{worst}");
    for curves in curves.chunks(2) {
        let worst = worst_relative_difference(&curves[0], &curves[1]);
        println!(
            "{name}: {:?} on the CPU, {:?} there, worst relative difference {worst:.1e}",
            curves[0], curves[1]
        );
        assert!(3 <= curves[0].len() && curves[0].len() == curves[1].len() && worst < 1e-3);
    }
}

/// The formats that a configuration asks for when it says nothing: what the device lacks of them is replaced, and told.
fn worst_in_default_formats(name: &str, bench: &Bench) -> f64 {
    let [cpu, device] = ["cpu", name].map(|device| {
        let run = format!("{device}-narrow");
        let changes = [
            ("environment.device", device),
            ("architecture.backbone_dtype", "bfloat16"),
            ("environment.mixed_precision", "true"),
            ("training.epochs", "1"),
        ];
        bench.run(&run, &changes).unwrap();
        let record = SavedRun::open(&bench.path(&run), None).unwrap().record().clone();
        println!("{device}: {:?}; {:?}", record.dtypes, record.substitutions);
        losses(&bench.events(&run))
    });
    assert_eq!(cpu.len(), device.len());
    worst_relative_difference(&cpu, &device)
}

fn worst_relative_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max)
}

fn worst_logit_difference(a: &CausalLm, b: &CausalLm) -> f32 {
    let ids: Vec<u32> = (0..20).map(|i| 3 + i * 7 % 90).collect();
    let positions: Vec<u32> = (0..20).collect();
    let segments = Segments::new(&[ids.len()]);
    let [a, b] = [a, b].map(|model| {
        let tokens = TokenBatch { ids: &ids, positions: &positions, segments: &segments };
        read_back(model.logits(model.hidden(&tokens, None).unwrap()), "logits").unwrap()
    });
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
