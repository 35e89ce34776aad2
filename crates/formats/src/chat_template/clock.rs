//! `strftime` for templates that write a date: the proleptic Gregorian calendar in UTC, English names.
//!
//! Python's local time zone is not consulted: the same template gives the same text on every machine.

use std::fmt::Write;

const SECS_PER_DAY: u64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats `unix_secs` (seconds since 1970-01-01 UTC) by a C `strftime` format.
///
/// # Errors
/// The text names a directive that is not known here; nothing is left out silently.
pub(super) fn strftime(unix_secs: u64, format: &str) -> Result<String, String> {
    let days = unix_secs / SECS_PER_DAY;
    let second_of_day = unix_secs % SECS_PER_DAY;
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let hour12 = (hour + 11) % 12 + 1;
    let half = if hour < 12 { "AM" } else { "PM" };
    let (year, month, day) = civil_date(days);
    let weekday = name(&WEEKDAYS, (days + 4) % 7);
    let month_name = name(&MONTHS, month - 1);
    let day_of_year = days - days_before_year(year) + 1;

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = chars.next();
        }
        let mut number = |value: u64, width: usize| {
            let width = if unpadded { 0 } else { width };
            write!(out, "{value:0width$}")
        };
        let written = match directive {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(day_of_year, 3),
            Some('e') if unpadded => number(day, 0),
            Some('e') => write!(out, "{day:2}"),
            Some('p') => write!(out, "{half}"),
            Some('B') => write!(out, "{month_name}"),
            Some('b' | 'h') => write!(out, "{}", month_name.get(..3).unwrap_or(month_name)),
            Some('A') => write!(out, "{weekday}"),
            Some('a') => write!(out, "{}", weekday.get(..3).unwrap_or(weekday)),
            Some('F') => write!(out, "{year:04}-{month:02}-{day:02}"),
            Some('D' | 'x') => write!(out, "{month:02}/{day:02}/{:02}", year % 100),
            Some('T' | 'X') => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            Some('R') => write!(out, "{hour:02}:{minute:02}"),
            Some('Z') => write!(out, "UTC"),
            Some('z') => write!(out, "+0000"),
            Some('%') => write!(out, "%"),
            Some(other) => return Err(format!("strftime_now: unknown directive %{other} in {format:?}")),
            None => return Err(format!("strftime_now: {format:?} ends in the middle of a directive")),
        };
        written.map_err(|error| error.to_string())?;
    }
    Ok(out)
}

/// Year, month (1–12) and day (1–31) of a day counted from 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // 146 097 days make the 400-year cycle of the calendar; years are counted from 1 March so that the
    // leap day comes last.
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to 1 January of `year`.
fn days_before_year(year: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn formats_known_moments() {
        // date -u -d @<secs> +<format>
        let cases = [
            (0, "%Y-%m-%d %H:%M:%S %a %j", "1970-01-01 00:00:00 Thu 001"),
            (951_782_400, "%d %b %Y", "29 Feb 2000"),
            (951_868_799, "%A %d %B %Y %I:%M %p", "Tuesday 29 February 2000 11:59 PM"),
            (1_721_952_000, "%d %b %Y", "26 Jul 2024"),
            (1_704_067_199, "%F %T %j %y", "2023-12-31 23:59:59 365 23"),
            (1_735_603_200, "%-d/%-m/%Y %j|%e|%%", "31/12/2024 366|31|%"),
            (4_107_542_400, "%D %R %Z", "03/01/00 00:00 UTC"),
        ];
        for (secs, format, expected) in cases {
            assert_eq!(strftime(secs, format).unwrap(), expected, "{secs} {format}");
        }
    }

    #[test]
    fn unknown_directives_are_refused() {
        assert!(strftime(0, "%Q").unwrap_err().contains("%Q"));
        assert!(strftime(0, "100%").unwrap_err().contains("ends in"));
    }
}
