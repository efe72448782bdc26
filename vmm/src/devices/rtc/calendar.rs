//! Days and dates of the proleptic Gregorian calendar.

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    pub(super) year: i64,
    /// 1–12.
    pub(super) month: u8,
    /// 1–31.
    pub(super) day: u8,
    /// 1–7, Sunday is 1.
    pub(super) weekday: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
}

pub(super) const SECONDS_PER_DAY: i64 = 86_400;
const DAYS_PER_400_YEARS: i64 = 146_097;

/// Days from 1970-01-01 to 1 March of `year`; years begin in March here, so that the leap day is the last one.
const fn days_to_march(year: i64) -> i64 {
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) - 719_468
}

/// Days from 1 March to the first of the month with index `month` (0 is March).
const fn days_before_month(month: i64) -> i64 {
    (153 * month + 2) / 5
}

/// The date and time of `seconds` since 1970.
pub(super) fn from_unix(seconds: i64) -> DateTime {
    let days = seconds.div_euclid(SECONDS_PER_DAY);
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    // A first guess from the mean length of a year is never too small and at most one too large.
    let since = days.saturating_add(719_468);
    let mut year = since.saturating_mul(400).div_euclid(DAYS_PER_400_YEARS) + 1;
    while days_to_march(year) > days {
        year -= 1;
    }
    let day_of_year = days - days_to_march(year);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - days_before_month(month) + 1;
    DateTime {
        year: if month >= 10 { year + 1 } else { year },
        month: (if month >= 10 { month - 9 } else { month + 3 }) as u8,
        day: day as u8,
        // 1970-01-01 was a Thursday.
        weekday: ((days + 4).rem_euclid(7) + 1) as u8,
        hour: (second / 3600) as u8,
        minute: (second / 60 % 60) as u8,
        second: (second % 60) as u8,
    }
}

/// Seconds since 1970. Fields out of range count on (32 January is 1 February), except for the month, which is
/// brought into its range; the weekday is ignored.
pub(super) fn to_unix(t: &DateTime) -> i64 {
    let month = i64::from(t.month.clamp(1, 12));
    let (year, month) = if month < 3 { (t.year - 1, month + 9) } else { (t.year, month - 3) };
    let days = days_to_march(year) + days_before_month(month) + i64::from(t.day) - 1;
    days * SECONDS_PER_DAY + i64::from(t.hour) * 3600 + i64::from(t.minute) * 60 + i64::from(t.second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let at = |seconds| {
            let t = from_unix(seconds);
            (t.year, t.month, t.day, t.weekday, t.hour, t.minute, t.second)
        };
        assert_eq!(at(0), (1970, 1, 1, 5, 0, 0, 0));
        assert_eq!(at(951_782_399), (2000, 2, 28, 2, 23, 59, 59));
        assert_eq!(at(951_782_400), (2000, 2, 29, 3, 0, 0, 0));
        assert_eq!(at(1_795_363_200), (2026, 11, 22, 1, 16, 0, 0));
        assert_eq!(at(4_107_542_400), (2100, 3, 1, 2, 0, 0, 0), "2100 is no leap year");
        assert_eq!(at(-1), (1969, 12, 31, 4, 23, 59, 59));
    }

    #[test]
    fn every_day_of_eight_centuries_comes_back() {
        let mut previous = from_unix(-150_000 * SECONDS_PER_DAY);
        for day in -149_999..150_000_i64 {
            let seconds = day * SECONDS_PER_DAY + day.rem_euclid(SECONDS_PER_DAY);
            let t = from_unix(seconds);
            assert_eq!(to_unix(&t), seconds);
            let next = t.day == previous.day + 1 || t.day == 1 && (28..=31).contains(&previous.day);
            assert!(next && t.weekday == previous.weekday % 7 + 1, "{previous:?} {t:?}");
            previous = t;
        }
    }
}
