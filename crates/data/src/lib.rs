//! Rows of text to token samples and packed batches: tables, conversations, splits, masks, packing, preview.
