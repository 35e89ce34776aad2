//! Wall-clock times as people read them: UTC stamps for the log and run times for the status file.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01 UTC; 0 when the clock stands before that.
pub(crate) fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `2026-01-31T09:05:07Z` for the given seconds since 1970-01-01 UTC.
pub fn utc_stamp(unix_secs: u64) -> String {
    let (n_days, in_day) = (unix_secs / 86_400, unix_secs % 86_400);
    let (year, month, day) = civil_date(n_days);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `00:27:16`, and `1d 02:03:04` from one day on.
pub fn run_time(secs: f64) -> String {
    let whole = secs.max(0.0) as u64;
    let (days, in_day) = (whole / 86_400, whole % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", in_day / 3600, in_day / 60 % 60, in_day % 60);
    if days == 0 { clock } else { format!("{days}d {clock}") }
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01
/// (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil_date(n_days: u64) -> (u64, u64, u64) {
    let shifted = n_days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        assert_eq!(utc_stamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc_stamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc_stamp(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(utc_stamp(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn run_times() {
        assert_eq!(run_time(1636.9), "00:27:16");
        assert_eq!(run_time(93_784.0), "1d 02:03:04");
    }
}
