//! The columns of the views, as SQL shows them. Counts are signed, as PostgreSQL clients expect.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A view and its columns.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name, in ClickHouse and in SQL.
    pub name: &'static str,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its columns that hold no NaN: readings are finite, and so are their extremes and quantiles.
    pub finite: &'static [&'static str],
    /// The view of its parts, the same per source partition, where there is one.
    pub parts: Option<&'static str>,
}

/// Columns of windows and totals that hold no NaN.
const FINITE: [&str; 8] = ["min", "max", "first", "last", "p50", "p95", "p99", "score"];

/// All views.
#[must_use]
pub fn all() -> Vec<View> {
    let view = |name, schema| View { name, schema, finite: &[], parts: None };
    let readings = ["readings_10s", "readings_1m", "readings_1h", "readings_1d"];
    let of_readings = |name| View { finite: &FINITE, ..view(name, windows()) };
    let mut views: Vec<View> = readings.into_iter().map(of_readings).collect();
    let fleet =
        [("fleet_1m", "fleet_parts_1m"), ("fleet_1h", "fleet_parts_1h"), ("fleet_1d", "fleet_parts_1d")];
    views.extend(fleet.into_iter().map(|(name, parts)| View {
        finite: &FINITE,
        parts: Some(parts),
        ..view(name, totals())
    }));
    let states = ["states_10s", "states_1m", "states_1h", "states_1d"];
    views.extend(states.into_iter().map(|name| view(name, held_states())));
    views.push(view("series_refused", series_refused()));
    views.push(view("anomalies", anomalies()));
    views.push(view("latest", latest()));
    views.push(view("machines_scored", machines_scored()));
    views.push(view("machine_lateness", machine_lateness()));
    views.push(view("pipeline_positions", pipeline_positions()));
    views
}

fn windows() -> SchemaRef {
    let mut fields =
        vec![text("machine"), text("sensor"), text("kind"), text("unit"), time("time"), count("count")];
    let values = ["sum", "avg", "stddev", "min", "max", "first", "last", "p50", "p95", "p99"];
    fields.extend(values.into_iter().map(number));
    fields.extend([count("bad"), count("late"), nullable(number("score"))]);
    fields.extend([time("first_time"), time("last_time")]);
    let by_time = ["area_held", "area_linear", "avg_held", "avg_linear", "increase", "rate"];
    fields.extend(by_time.into_iter().map(|name| nullable(number(name))));
    fields.push(nullable(count("resets")));
    Arc::new(Schema::new(fields))
}

fn totals() -> SchemaRef {
    let mut fields = vec![text("machine"), text("kind"), time("time"), count("count")];
    fields.push(number("sum"));
    // Where all readings were bad, there is no value.
    fields.extend(["avg", "min", "max"].map(|name| nullable(number(name))));
    fields.extend([count("bad"), count("late"), nullable(number("score"))]);
    Arc::new(Schema::new(fields))
}

fn held_states() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("machine"),
        text("sensor"),
        time("time"),
        text("state"),
        nullable(number("held_s")),
        count("readings"),
        nullable(count("transitions")),
        text("first"),
        text("last"),
    ]))
}

fn series_refused() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        text("machine"),
        count("series"),
        count("readings"),
        count("since"),
        count("until"),
    ]))
}

fn anomalies() -> SchemaRef {
    Arc::new(Schema::new(vec![
        time("time"),
        nullable(time("until")),
        text("machine"),
        Field::new_list("sensors", Field::new_list_field(DataType::Utf8, true), false),
        number("score"),
        number("peak_score"),
        number("threshold"),
        text("model"),
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        count("offset"),
        text("id"),
    ]))
}

fn latest() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("machine"),
        text("sensor"),
        text("kind"),
        text("unit"),
        time("time"),
        nullable(number("value")),
        nullable(text("text")),
        Field::new("quality", DataType::UInt32, false),
        nullable(number("score")),
    ]))
}

fn machines_scored() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("machine"),
        text("model"),
        count("rows"),
        number("threshold"),
        time("since"),
    ]))
}

fn machine_lateness() -> SchemaRef {
    let mut fields = vec![text("machine"), count("readings"), count("late"), number("late_share")];
    let seconds = ["lag_p50_s", "lag_p99_s", "lag_max_s", "skew_s", "skew_min_s", "skew_p50_s"];
    fields.extend(seconds.into_iter().map(|name| nullable(number(name))));
    fields.extend([nullable(time("last_time")), time("updated")]);
    Arc::new(Schema::new(fields))
}

fn pipeline_positions() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        count("position"),
        count("received"),
        count("end_offset"),
        count("readings"),
        count("late"),
        time("updated"),
    ]))
}

pub(crate) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

pub(crate) fn number(name: &str) -> Field {
    Field::new(name, DataType::Float64, false)
}

pub(crate) fn count(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

pub(crate) fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
}

pub(crate) fn nullable(field: Field) -> Field {
    field.with_nullable(true)
}
