//! Dates and times of binary tables as ISO texts.

/// Microseconds of a second, in which times and time stamps are counted here.
pub(crate) const MICROS_A_SECOND: i64 = 1_000_000;
const SECONDS_A_DAY: i64 = 86_400;

/// `2024-02-29`, proleptic Gregorian, from days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date
/// algorithms": years start in March, eras have 400 years).
pub(crate) fn date_text(days: i64) -> String {
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `13:05:07`, with six more digits if there are parts of a second.
pub(crate) fn time_text(micros: i64) -> String {
    let seconds = micros.div_euclid(MICROS_A_SECOND);
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match micros.rem_euclid(MICROS_A_SECOND) {
        0 => time,
        fraction => format!("{time}.{fraction:06}"),
    }
}

/// `2024-02-29 13:05:07`, from microseconds since 1970.
pub(crate) fn timestamp_text(micros: i64) -> String {
    let micros_a_day = SECONDS_A_DAY * MICROS_A_SECOND;
    let (days, rest) = (micros.div_euclid(micros_a_day), micros.rem_euclid(micros_a_day));
    format!("{} {}", date_text(days), time_text(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_spelled_as_iso_does() {
        assert_eq!(date_text(0), "1970-01-01");
        assert_eq!(date_text(-1), "1969-12-31");
        assert_eq!(date_text(19_782), "2024-02-29");
        assert_eq!(date_text(11_016), "2000-02-29");
        assert_eq!(date_text(-25_509), "1900-02-28");
        assert_eq!(date_text(-25_508), "1900-03-01");
        assert_eq!(timestamp_text(1_709_211_907_000_000), "2024-02-29 13:05:07");
        assert_eq!(timestamp_text(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(time_text(1_500_000), "00:00:01.500000");
        // Far beyond any calendar, and still no overflow.
        assert!(timestamp_text(i64::MIN).starts_with("-290308"));
    }
}
