//! The length of the longest common subsequence, 64 tokens at a time.
//!
//! The textbook's table takes n·m steps. Neighbouring entries of its columns differ by 0 or 1, so that a column fits into
//! bits: a bit is 0 where the column steps up. With M the places of the next token in the target, the next column is
//! (V + (V & M)) | (V & !M) (Hyyrö 2004). The target is cut into blocks of 64 tokens; what the addition carries out of a
//! block for each token of the prediction goes into the next.

use std::collections::HashMap;

const BLOCK: usize = u64::BITS as usize;

/// The length of the longest sequence of tokens that both have in this order, not necessarily side by side.
pub(crate) fn longest_common_subsequence(predicted: &[u32], target: &[u32]) -> usize {
    let mut carries = vec![false; predicted.len()];
    let mut length = 0;
    for block in target.chunks(BLOCK) {
        let mut places: HashMap<u32, u64> = HashMap::new();
        for (idx, token) in block.iter().enumerate() {
            *places.entry(*token).or_default() |= 1 << idx;
        }
        let mut column = u64::MAX;
        for (token, carry) in predicted.iter().zip(&mut carries) {
            let matches = places.get(token).copied().unwrap_or_default();
            let (sum, overflows) = column.overflowing_add(column & matches);
            let (sum, carry_overflows) = sum.overflowing_add(u64::from(*carry));
            *carry = overflows || carry_overflows;
            column = sum | (column & !matches);
        }
        // Bits beyond a short last block never match and stay 1.
        length += column.count_zeros() as usize;
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The textbook's table, row by row.
    fn naive(a: &[u32], b: &[u32]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
                diagonal = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn lengths_around_the_block_are_right() {
        for n in [0, 1, 63, 64, 65, 127, 128, 129, 300] {
            let a: Vec<u32> = (0..n).map(|i| i * i % 7).collect();
            let b: Vec<u32> = (0..n).map(|i| i * 5 % 9).collect();
            assert_eq!(longest_common_subsequence(&a, &b), naive(&a, &b), "{n} tokens");
            assert_eq!(longest_common_subsequence(&a, &a), n as usize);
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_table_says(
            a in prop::collection::vec(0_u32..6, 0..200), b in prop::collection::vec(0_u32..6, 0..200)
        ) {
            prop_assert_eq!(longest_common_subsequence(&a, &b), naive(&a, &b));
        }
    }
}
