//! Times written as their clients write them.

use super::number::{Text, integer};

/// Microseconds of a second, by digits of its fraction.
const TENS: [i64; 10] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

const DAY_S: i64 = 86_400;

/// An integer epoch in seconds by ten to the `digits`; none where the time does not fit.
#[inline(always)]
pub(super) fn epoch(time_us: i64, digits: u8, text: &mut Text) -> Option<()> {
    let epoch = match digits {
        3 => exactly(time_us, 1_000)?,
        6 => time_us,
        9 => time_us.checked_mul(1_000)?,
        _ => exactly(time_us, 1_000_000)?,
    };
    integer(epoch, text);
    Some(())
}

/// `2026-11-25T06:07:59.123` with so many digits of the fraction; none where the time has more of them, or a year
/// that is not of four digits.
#[inline(never)]
pub(super) fn moment(time_us: i64, digits: u8, text: &mut Text) -> Option<()> {
    let (seconds, micros) = (time_us.div_euclid(1_000_000), time_us.rem_euclid(1_000_000));
    let digits = usize::from(digits);
    let fraction = match digits.checked_sub(6) {
        Some(more) => micros * TENS.get(more)?,
        None => exactly(micros, TENS[6 - digits])?,
    };
    let (year, month, day) = date(seconds.div_euclid(DAY_S));
    if !(0..10_000).contains(&year) {
        return None;
    }
    let second = seconds.rem_euclid(DAY_S);
    text.clear();
    if digits > 0 {
        text.digits_before(fraction.unsigned_abs(), digits);
        text.before(b'.');
    }
    for (number, mark) in
        [(second % 60, b':'), (second / 60 % 60, b':'), (second / 3600, b'T'), (day, b'-'), (month, b'-')]
    {
        text.digits_before(number.unsigned_abs(), 2);
        text.before(mark);
    }
    text.digits_before(year.unsigned_abs(), 4);
    Some(())
}

fn exactly(number: i64, divisor: i64) -> Option<i64> {
    (number % divisor == 0).then(|| number / divisor)
}

/// Year, month and day of a day since the epoch, in the proleptic Gregorian calendar, by eras of 400 years that
/// begin in March (Hinnant, "chrono-compatible low-level date algorithms").
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + later, month, of_month)
}
