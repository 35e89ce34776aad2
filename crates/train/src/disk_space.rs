//! Whether there is room for what a run writes, asked before it costs hours.

use std::path::Path;

use tunesmith_platform::free_disk_bytes;

use crate::error::TrainError;

/// What has to be free where nobody says otherwise: 2 GiB.
pub const LEAST_FREE_DISK_BYTES: u64 = 2 << 30;

/// A size such as `2GB`, `500MB` or `1.5 TB`, in binary units of TB, GB, MB, KB and B; `None` for anything else.
pub fn parse_disk_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 5] =
        [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

    let text = text.trim().to_ascii_uppercase();
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim(), *unit)))?;
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    Some((number * unit as f64) as u64)
}

/// Looks whether `least_bytes` can be written below `dir`, which exists. A system that does not tell passes.
///
/// # Errors
/// [`TrainError::DiskSpace`] where less is free.
pub(crate) fn check(dir: &Path, least_bytes: u64) -> Result<(), TrainError> {
    match free_disk_bytes(dir) {
        Some(free_bytes) if free_bytes < least_bytes => {
            Err(TrainError::DiskSpace { path: dir.to_owned(), free_bytes, least_bytes })
        }
        _ => Ok(()),
    }
}

/// What a checkpoint of so many trained numbers takes, with a little for its other files.
pub(crate) fn checkpoint_bytes(n_trainable: usize) -> u64 {
    (n_trainable as f64 * 4.0 * 1.03) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gv_9_2_sizes_have_binary_units() {
        assert_eq!(parse_disk_size("2GB"), Some(2_147_483_648));
        assert_eq!(parse_disk_size("500MB"), Some(524_288_000));
        assert_eq!(parse_disk_size("0.5 tb"), Some(1 << 39));
        assert_eq!([parse_disk_size("3KB"), parse_disk_size("7 B")], [Some(3072), Some(7)]);
        // What cannot be read means the default, and is told.
        for text in ["abc", "", "GB", "-1GB", "2", "nanGB"] {
            assert_eq!(parse_disk_size(text), None, "{text}");
        }
        assert_eq!(LEAST_FREE_DISK_BYTES, 2_147_483_648);
    }

    #[test]
    fn gv_11_2_a_full_disk_is_told_beforehand() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path(), 1).is_ok());
        let error = check(dir.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, TrainError::DiskSpace { .. }), "{error}");
        assert!(error.to_string().contains("free"), "{error}");
        assert_eq!(checkpoint_bytes(1000), 4120);
    }
}
