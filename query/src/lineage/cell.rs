//! Which cell of which view is meant: the arguments of the functions, and the window that they name.

use std::ops::Range;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::Expr;

/// A view, the rows behind it, and its windows' width, µs.
struct Width {
    view: &'static str,
    rows: &'static str,
    us: i64,
}

const WIDTHS: [Width; 4] = [
    Width { view: "readings_10s", rows: "windows_10s_live", us: 10_000_000 },
    Width { view: "readings_1m", rows: "windows_1m_live", us: 60_000_000 },
    Width { view: "readings_1h", rows: "windows_1h_live", us: 3_600_000_000 },
    Width { view: "readings_1d", rows: "windows_1d_live", us: 86_400_000_000 },
];

/// One series in one window of one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(super) machine: String,
    pub(super) sensor: String,
    /// µs UTC.
    pub(super) start_us: i64,
    /// Index into [`WIDTHS`].
    width: usize,
}

impl Cell {
    /// The cell that `function`'s arguments name.
    ///
    /// # Errors
    /// A plan error that says what the arguments have to be.
    pub(super) fn of(args: &[Expr], function: &str) -> Result<Self> {
        let (machine, sensor, at, view) = match args {
            [machine, sensor, at] => (machine, sensor, at, None),
            [machine, sensor, at, view] => (machine, sensor, at, Some(view)),
            _ => {
                return plan_err!(
                    "{function} takes machine, sensor, at and, if it is not readings_10s, view"
                );
            }
        };
        let view = view.map_or(Ok(WIDTHS[0].view), |view| text(view, function, "view"))?;
        let Some(width) = WIDTHS.iter().position(|width| width.view == view) else {
            let views = WIDTHS.map(|width| width.view).join(", ");
            return plan_err!("{view} is no view of windows; there are {views}");
        };
        let us = WIDTHS[width].us;
        let start_us = micros(at, function)?.div_euclid(us).saturating_mul(us);
        let (machine, sensor) = (text(machine, function, "machine")?, text(sensor, function, "sensor")?);
        Ok(Self { machine: machine.to_owned(), sensor: sensor.to_owned(), start_us, width })
    }

    /// The view's name.
    pub(super) fn view(&self) -> &'static str {
        WIDTHS[self.width].view
    }

    /// The name of what holds its windows by source partition.
    pub(super) fn rows(&self) -> &'static str {
        WIDTHS[self.width].rows
    }

    /// The times of its readings, µs UTC.
    pub(super) fn times_us(&self) -> Range<i64> {
        self.start_us..self.start_us.saturating_add(WIDTHS[self.width].us)
    }

    /// The window's start.
    pub(super) fn start(&self) -> ScalarValue {
        ScalarValue::TimestampMicrosecond(Some(self.start_us), Some("UTC".into()))
    }
}

fn text<'a>(expr: &'a Expr, function: &str, name: &str) -> Result<&'a str> {
    if let Expr::Literal(value, _) = expr
        && let Some(Some(text)) = value.try_as_str()
    {
        return Ok(text);
    }
    plan_err!("{name} of {function} must be a text, written in place: '…'")
}

fn micros(expr: &Expr, function: &str) -> Result<i64> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let Expr::Literal(value, _) = expr else {
        return plan_err!("at of {function} must be a time, written in place: '2026-11-25T06:00:00Z'");
    };
    match value.cast_to(&utc) {
        Ok(ScalarValue::TimestampMicrosecond(Some(us), _)) => Ok(us),
        _ => plan_err!("at of {function} is {value}, which is no time such as '2026-11-25T06:00:00Z'"),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn cell(args: &[Expr]) -> Result<Cell, String> {
        Cell::of(args, "lineage").map_err(|error| error.message().into_owned())
    }

    #[test]
    fn a_time_anywhere_in_the_window_names_it() {
        for (at, view, start_us) in [
            (lit("1970-01-01T00:00:19.999999Z"), "readings_10s", 10_000_000),
            (lit("1970-01-01 00:00:20"), "readings_10s", 20_000_000),
            (lit(59_999_999_i64), "readings_1m", 0),
            (lit(-1_i64), "readings_1h", -3_600_000_000),
            (
                lit(ScalarValue::TimestampNanosecond(Some(86_400_000_000_001), None)),
                "readings_1d",
                86_400_000_000,
            ),
        ] {
            let found = cell(&[lit("m"), lit("s"), at, lit(view)]).unwrap();
            assert_eq!((found.start_us, found.view()), (start_us, view));
        }
        let found = cell(&[lit("m"), lit("s"), lit(0_i64)]).unwrap();
        assert_eq!((found.view(), found.rows()), ("readings_10s", "windows_10s_live"));
        assert_eq!(found.times_us(), 0..10_000_000);
    }

    #[test]
    fn other_arguments_are_refused_with_what_is_wanted() {
        let (m, s, at) = (lit("m"), lit("s"), lit("2026-11-25T06:00:00Z"));
        for (args, part) in [
            (vec![m.clone(), s.clone()], "takes machine"),
            (vec![m.clone(), s.clone(), lit("soon")], "no time"),
            (vec![m.clone(), s.clone(), col("time")], "written in place"),
            (vec![lit(1), s.clone(), at.clone()], "machine of lineage"),
            (vec![m, s, at, lit("latest")], "readings_1h"),
        ] {
            let error = cell(&args).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
