//! A run on a graphics processor against the same run on the CPU: losses, and the result loaded on the CPU.
//!
//! One test for each backend, as for the operations; the rules for skipping are the same.

use tunesmith_ops::open_device;
use tunesmith_train::{RunWeights, SavedRun};

use crate::support::{Bench, losses};

macro_rules! on_device {
    ($backend:ident, $name:literal) => {
        mod $backend {
            #[test]
            fn a_run_follows_that_on_the_cpu() {
                super::a_run_follows_that_on_the_cpu($name);
            }
        }
    };
}

on_device!(arm64_cuda, "cuda");
on_device!(arm64_mps, "metal");
on_device!(vulkan, "vulkan");

fn a_run_follows_that_on_the_cpu(name: &str) {
    if let Err(error) = open_device(name) {
        let required = std::env::var("TUNESMITH_REQUIRE_DEVICE").unwrap_or_default();
        assert!(!required.split(',').any(|required| required == name), "{error}");
        println!("skipped: {error}");
        return;
    }
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
        // What was trained there loads here.
        let saved = SavedRun::open(&bench.path(&run), None).unwrap();
        saved.model(&RunWeights::Result, &open_device("cpu").unwrap()).unwrap();
    }
    for curves in curves.chunks(2) {
        let worst = curves[0]
            .iter()
            .zip(&curves[1])
            .map(|(cpu, device)| (cpu - device).abs() / cpu.abs())
            .fold(0.0, f64::max);
        println!(
            "{name}: {:?} on the CPU, {:?} there, worst relative difference {worst:.1e}",
            curves[0], curves[1]
        );
        assert!(3 <= curves[0].len() && curves[0].len() == curves[1].len() && worst < 1e-3);
    }
}
