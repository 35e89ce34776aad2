//! The time account of a whole run: which operations, how many calls, how much work.

use std::collections::BTreeMap;

use tunesmith_train::{EventBody, NoObserver, Operation, Profile, StopFlag, run};

use crate::support::{Bench, comparable};

const RANK: u64 = 4;
/// In and out features of the linear layers of one block: q, k, v, o, gate, up, down.
const LINEAR: [(u64, u64); 7] = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32)];
const N_BLOCKS: u64 = 2;

#[test]
fn a_tiny_run_is_accounted_for_by_calls_and_work() {
    let bench = Bench::new();
    let changes = [("training.lora_r", "4")];
    bench.run("plain", &changes).unwrap();
    let mut request = bench.request("profiled", bench.config(&changes));
    request.profile = true;
    let summary = run(&request, &mut NoObserver, &StopFlag::new()).unwrap();
    assert_eq!(comparable(&bench.events("plain")), comparable(&bench.events("profiled")));
    assert!(!bench.folder("plain").profile().exists());

    let account = Profile::read(&bench.folder("profiled").profile()).unwrap().unwrap();
    assert_eq!(account.n_steps, summary.n_steps_done);
    let rows: BTreeMap<&str, &Operation> =
        account.operations.iter().map(|row| (row.name.as_str(), row)).collect();
    let n_micro_batches = bench
        .events("profiled")
        .iter()
        .filter_map(
            |event| if let EventBody::Step(step) = &event.body { Some(step.micro_batch) } else { None },
        )
        .max()
        .unwrap();
    let n_linear = LINEAR.len() as u64 * N_BLOCKS;
    let n_adapters = 2 * n_linear;
    // Nothing is trained below the first block's first norm. The evaluations of the run are not in the account.
    let calls = [
        ("embedding forward", n_micro_batches),
        ("rms_norm forward", (2 * N_BLOCKS + 1) * n_micro_batches),
        ("rms_norm backward", 2 * N_BLOCKS * n_micro_batches),
        ("linear_low_rank forward", n_linear * n_micro_batches),
        ("linear_low_rank backward", n_linear * n_micro_batches),
        ("rotary forward", 2 * N_BLOCKS * n_micro_batches),
        ("rotary backward", 2 * N_BLOCKS * n_micro_batches),
        ("attention forward", N_BLOCKS * n_micro_batches),
        ("attention backward", N_BLOCKS * n_micro_batches),
        ("gated forward", N_BLOCKS * n_micro_batches),
        ("gated backward", N_BLOCKS * n_micro_batches),
        ("cross_entropy", n_micro_batches),
        ("adding gradients", n_adapters * (n_micro_batches - account.n_steps)),
        ("gradient norm", n_adapters * account.n_steps),
        ("optimizer update", n_adapters * account.n_steps),
    ];
    for (name, n_calls) in calls {
        assert_eq!(rows.get(name).map(|row| row.n_calls), Some(n_calls), "{name} in {rows:#?}");
    }
    assert!(!rows.contains_key("embedding backward") && !rows.contains_key("linear forward"), "{rows:#?}");

    let flops_per_token: u64 = LINEAR.iter().map(|(i, o)| 2 * i * o + 2 * RANK * (i + o)).sum();
    let forward = rows["linear_low_rank forward"];
    assert_eq!(forward.n_flops, N_BLOCKS * flops_per_token * summary.n_tokens_seen);
    // dx is as much as y, except for q, k and v of the first block; each factor of a branch has a gradient.
    let without_dx: u64 = LINEAR[..3].iter().map(|(i, o)| 2 * i * o + 2 * RANK * i).sum();
    let of_factors: u64 = LINEAR.iter().map(|(i, o)| 2 * RANK * (i + o)).sum();
    let expected = (N_BLOCKS * (flops_per_token + of_factors) - without_dx) * summary.n_tokens_seen;
    assert_eq!(rows["linear_low_rank backward"].n_flops, expected);
    assert_eq!(rows["attention backward"].n_flops, 5 * rows["attention forward"].n_flops / 2);
    assert_eq!(account.operations.last().unwrap().name, Profile::EVERYTHING_ELSE);
}
