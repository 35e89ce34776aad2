//! Every operation on a graphics processor against the CPU's kernels, values and gradients.
//!
//! One test for each backend, so that a device is opened and its shaders are compiled once.

use burn::tensor::DType;
use tunesmith_ops::{
    Activation, AttentionOptions, Compute, Device, Dropout, LowRank, RotaryTable, Rule, Segments, SelfTest,
    Tensor, TensorData, Weight, activation, attention, cross_entropy_from_hidden, dropout, embedding, gated,
    layer_norm, linear, linear_low_rank, rms_norm, rotary, sum_of_squares, update,
};

use crate::compare::{
    Argument, Leaf, compare, frozen, random, run, run_on, to_vec, tracked, worst_difference,
};
use crate::on_device::on_each_device;

on_each_device!(operations_agree_with_the_cpu);

/// Sums are taken in another order, and drivers may fuse and approximate.
const TOLERANCE: f32 = 2e-5;

fn operations_agree_with_the_cpu(name: &str, device: &Device) {
    let check = |name: &str, arguments: &[Argument], f: &dyn Fn(&[Leaf]) -> Tensor<2>| {
        compare(name, TOLERANCE, arguments, &run_on(device, DType::F32, arguments, f), &run(arguments, f));
    };
    let [n, n_in, n_out] = [19, 24, 17];
    let x = tracked(&[n, n_in], 1);
    check("linear", &[x.clone(), tracked(&[n_out, n_in], 2), tracked(&[n_out], 3)], &|l| {
        linear(l[0].get(), l[1].get::<2>(), Some(l[2].get()))
    });
    for dropout in [None, Some(Dropout { probability: 0.2, key: 42 })] {
        let arguments =
            [x.clone(), frozen(&[n_out, n_in], 2), tracked(&[4, n_in], 4), tracked(&[n_out, 4], 5)];
        check("linear with a low-rank branch", &arguments, &|l| {
            let low_rank = LowRank { a: l[2].get(), b: l[3].get(), scale: 1.7, dropout };
            linear_low_rank(l[0].get(), l[1].get::<2>(), None, low_rank)
        });
    }
    check("dropout", std::slice::from_ref(&x), &|l| {
        dropout(l[0].get(), Dropout { probability: 0.3, key: 7 })
    });
    check("rms_norm", &[x.clone(), tracked(&[n_in], 6)], &|l| rms_norm(l[0].get(), l[1].get(), 1e-5));
    check("layer_norm", &[x.clone(), tracked(&[n_in], 7), tracked(&[n_in], 8)], &|l| {
        layer_norm(l[0].get(), l[1].get(), l[2].get(), 1e-5)
    });
    for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
        check(&format!("{kind:?}"), std::slice::from_ref(&x), &|l| activation(l[0].get(), kind));
        check(&format!("{kind:?} as a gate"), &[x.clone(), tracked(&[n, n_in], 9)], &|l| {
            gated(l[0].get(), l[1].get(), kind)
        });
    }
    let ids: Vec<u32> = (0..n as u32).map(|i| i * 5 % 11).collect();
    check("embedding", &[tracked(&[11, n_in], 10)], &|l| embedding(l[0].get::<2>(), &ids));

    let inv_freq: Vec<f32> = (0..4).map(|i| 10_000_f32.powf(-(i as f32) / 4.0)).collect();
    let table = RotaryTable::new(&inv_freq, 1.0, 50);
    let positions: Vec<u32> = (0..n as u32).map(|i| i * 7 % 50).collect();
    check("rotary", &[tracked(&[n, 3, 8], 11)], &|l| {
        rotary(l[0].get(), &positions, &table).reshape([n, 3 * 8])
    });
    for window in [None, Some(3)] {
        let segments = Segments::new(&[1, 11, 7]);
        let arguments = [tracked(&[n, 4, 8], 12), tracked(&[n, 2, 8], 13), tracked(&[n, 2, 8], 14)];
        check(&format!("attention, window {window:?}"), &arguments, &|l| {
            let options = AttentionOptions::new(0.35, window);
            attention(l[0].get(), l[1].get(), l[2].get(), &segments, options).reshape([n, 4 * 8])
        });
    }
    let labels: Vec<i64> = (0..n as i64).map(|i| if i % 3 == 0 { -100 } else { i % 13 }).collect();
    let weights = random(n, 15);
    check("cross-entropy", &[x, tracked(&[13, n_in], 16)], &|l| {
        cross_entropy_from_hidden(l[0].get(), l[1].get::<2>(), &labels, &weights).weighted_sum.unsqueeze()
    });
    narrow_weights_agree(device);
    optimizers_agree(device);

    let test = SelfTest::run(device);
    println!("{name}: {test:?}");
    assert!(test.is_right(), "{test:?}");
}

/// Frozen matrices of 16 bits, in those types that the device has, against the same values in float32.
fn narrow_weights_agree(device: &Device) {
    let [n, n_in, n_out] = [19, 24, 17];
    let labels: Vec<i64> = (0..n as i64).map(|i| if i % 3 == 0 { -100 } else { i % 13 }).collect();
    let weights = random(n, 15);
    let ids: Vec<u32> = (0..n as u32).map(|i| i * 5 % 17).collect();
    for dtype in [DType::BF16, DType::F16] {
        if !device.supports_dtype(dtype) {
            println!("{dtype:?}: this device has no such numbers");
            continue;
        }
        let check = |name: &str, tolerance, f: &dyn Fn(&[Leaf], Tensor<2>) -> Tensor<2>| {
            let arguments = [tracked(&[n, n_in], 1), frozen(&[n_out, n_in], 2)];
            let there = run_on(device, DType::F32, &arguments, |l| f(l, l[1].get::<2>().cast(dtype)));
            let here = run(&arguments, |l| f(l, l[1].get::<2>().cast(dtype).cast(DType::F32)));
            compare(&format!("{name}, {dtype:?}"), tolerance, &arguments, &there, &here);
        };
        check("linear", TOLERANCE, &|l, weight| linear(l[0].get(), weight, None));
        check("embedding", TOLERANCE, &|l, weight| l[0].get::<2>() * 0.5 + embedding(weight, &ids));
        check("cross-entropy", TOLERANCE, &|l, weight| {
            cross_entropy_from_hidden(l[0].get(), weight, &labels, &weights).weighted_sum.unsqueeze()
        });
        if dtype == DType::BF16 {
            check("linear, computed in it", 0.02, &|l, weight| {
                linear(l[0].get(), Weight::from(weight).computed_in(Compute::Bf16), None)
            });
        }
    }
}

fn optimizers_agree(device: &Device) {
    let (beta1, beta2, eps, weight_decay) = (0.9, 0.999, 1e-8, 0.1);
    for rule in [
        Rule::AdamW { beta1, beta2, eps, weight_decay },
        Rule::Adam { beta1, beta2, eps, weight_decay },
        Rule::Sgd { momentum: 0.9, nesterov: true, weight_decay },
        Rule::RmsProp { alpha: 0.9, momentum: 0.9, eps, weight_decay },
        Rule::Adadelta { rho: 0.9, eps: 1e-6, weight_decay },
    ] {
        let after = |device: &Device| {
            let vector = |seed| Tensor::<1>::from_data(TensorData::new(random(300, seed), [300]), device);
            let mut parameter = vector(1);
            let mut state = rule.initial_state(&parameter);
            for step in 1..4 {
                (parameter, state) = update(&rule, 0.01, step, parameter, vector(step + 1), state);
            }
            (to_vec(&parameter), sum_of_squares(&parameter))
        };
        let ((got, got_norm), (want, want_norm)) = (after(device), after(&Device::flex()));
        let worst = worst_difference(&got, &want);
        println!("{rule:?}: worst difference {worst:.2e}");
        assert!(
            worst < TOLERANCE && (got_norm - want_norm).abs() < 1e-4 * want_norm,
            "{rule:?}: {worst:.2e}"
        );
    }
}
