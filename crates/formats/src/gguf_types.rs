//! The element types of GGUF by ggml's numbers.

use crate::dtype::StoredDtype;
use crate::gguf_quants::BlockLayout;

/// Element type by ggml's number, with values and bytes of a block.
pub(crate) fn element_type(number: u32) -> Option<(StoredDtype, usize, usize)> {
    let block = |layout: BlockLayout| (StoredDtype::Quantised(layout), layout.n_values(), layout.n_bytes());
    let other = |name, n_values, n_bytes| (StoredDtype::Other(name), n_values, n_bytes);
    Some(match number {
        0 => (StoredDtype::F32, 1, 4),
        1 => (StoredDtype::F16, 1, 2),
        2 => block(BlockLayout::Q4_0),
        3 => block(BlockLayout::Q4_1),
        6 => block(BlockLayout::Q5_0),
        7 => block(BlockLayout::Q5_1),
        8 => block(BlockLayout::Q8_0),
        9 => other("Q8_1", 32, 40),
        10 => other("Q2_K", 256, 84),
        11 => other("Q3_K", 256, 110),
        12 => block(BlockLayout::Q4_K),
        13 => block(BlockLayout::Q5_K),
        14 => block(BlockLayout::Q6_K),
        15 => other("Q8_K", 256, 292),
        16 => other("IQ2_XXS", 256, 66),
        17 => other("IQ2_XS", 256, 74),
        18 => other("IQ3_XXS", 256, 98),
        19 => other("IQ1_S", 256, 50),
        20 => other("IQ4_NL", 32, 18),
        21 => other("IQ3_S", 256, 110),
        22 => other("IQ2_S", 256, 82),
        23 => other("IQ4_XS", 256, 136),
        24 => other("I8", 1, 1),
        25 => other("I16", 1, 2),
        26 => other("I32", 1, 4),
        27 => other("I64", 1, 8),
        28 => (StoredDtype::F64, 1, 8),
        29 => other("IQ1_M", 256, 56),
        30 => (StoredDtype::BF16, 1, 2),
        34 => other("TQ1_0", 256, 54),
        35 => other("TQ2_0", 256, 66),
        39 => other("MXFP4", 32, 17),
        40 => other("NVFP4", 64, 36),
        41 => other("Q1_0", 128, 18),
        _ => return None,
    })
}
