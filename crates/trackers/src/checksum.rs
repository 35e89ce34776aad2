//! Cyclic redundancy checks of 32 bits, bit by bit: what is checked here is small.

/// Castagnoli's polynomial, of TensorBoard's records.
pub(crate) const CASTAGNOLI: u32 = 0x82f6_3b78;
/// That of zlib, of the records of Weights & Biases.
pub(crate) const ZLIB: u32 = 0xedb8_8320;

/// The check of all parts, one after the other.
pub(crate) fn crc(polynomial: u32, parts: &[&[u8]]) -> u32 {
    let mut sum = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { polynomial } else { 0 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_those_of_the_standards() {
        // RFC 3720, B.4, and the check values that both are catalogued with.
        assert_eq!(crc(CASTAGNOLI, &[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc(CASTAGNOLI, &[&[0xff; 32]]), 0x62a8_ab43);
        assert_eq!(crc(CASTAGNOLI, &[b"1234", b"", b"56789"]), 0xe306_9283);
        assert_eq!(crc(ZLIB, &[b"123456789"]), 0xcbf4_3926);
    }
}
