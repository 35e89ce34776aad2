//! Dropout with a mask that is a pure function of (key, element index).

/// Multiplies element i of `values` by 0 with the given probability, else by 1 / (1 − probability).
pub fn apply(values: &mut [f32], probability: f32, key: u64) {
    let threshold = (f64::from(probability) * 4_294_967_296.0) as u64;
    let scale = if probability < 1.0 { 1.0 / (1.0 - probability) } else { 0.0 };
    for (index, value) in values.iter_mut().enumerate() {
        let kept = threshold <= u64::from(hash(index as u64, key));
        *value *= if kept { scale } else { 0.0 };
    }
}

/// 32 random-looking bits for an element: two rounds of a 32-bit mixer, keyed before each.
#[inline(always)]
fn hash(index: u64, key: u64) -> u32 {
    let first = mix(index as u32 ^ key as u32);
    mix(first.wrapping_add((index >> 32) as u32).wrapping_add((key >> 32) as u32 | 1))
}

/// A bijection of 32 bits with low bias (the `lowbias32` constants found by C. Wellons' search).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
