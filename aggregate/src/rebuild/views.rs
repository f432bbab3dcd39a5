//! What a rebuild does to views: which table readers see.
//!
//! Views name their table themselves, as a view between them costs each question milliseconds: of a width its readings
//! and its states, of its totals these and their parts. `<windows>_live` has the rows of a width as they are stored.

use super::plan::Plan;
use super::tables::{Tables, Text};
use crate::error::AggregateError;
use crate::saga::StepError;
use crate::store::quote;

/// What the tables of totals are named by, but for the width.
const FLEET: &str = "fleet_windows_";

impl Tables {
    /// Readers see `table` from now on: those of each view all at once, one view after the other.
    pub(super) async fn show(&self, base: &str, table: &str) -> Result<(), StepError> {
        let mut views = Vec::new();
        for view in views_over(base) {
            views.push((self.over(&view, base, table).await?, view));
        }
        if !base.starts_with(FLEET) {
            views.push((format!("SELECT * FROM {} FINAL", self.store.named(table)), format!("{base}_live")));
        }
        for (select, view) in views {
            self.view(&view, &select).await?;
        }
        Ok(())
    }

    /// A view like the one in use, over the table that was built.
    pub(super) async fn show_beside(&self, plan: &Plan) -> Result<(), StepError> {
        let select = self.over(&plan.view, plan.base(), &plan.table).await?;
        Ok(self.view(&plan.as_of_view(), &select).await?)
    }

    pub(super) async fn drop_view(&self, view: &str) -> Result<(), AggregateError> {
        self.store.work(&format!("DROP VIEW IF EXISTS {}", self.store.named(view))).await
    }

    async fn view(&self, name: &str, select: &str) -> Result<(), AggregateError> {
        self.store.work(&format!("CREATE OR REPLACE VIEW {} AS {select}", self.store.named(name))).await
    }

    /// What a view selects, from another of the tables of the width whose first one is `base`.
    async fn over(&self, view: &str, base: &str, table: &str) -> Result<String, StepError> {
        let sql = format!(
            "SELECT as_select AS text FROM system.tables WHERE database = {} AND name = {}",
            self.store.database_literal(),
            quote(view)
        );
        let found = self.store.ask::<Text>(&sql).await?.into_iter().next();
        let remedy = "start the aggregator of this version once, which makes it";
        let select =
            found.ok_or_else(|| StepError::Refused(format!("there is no view {view}; {remedy}")))?.text;
        let source = format!("{} FINAL", self.store.named(table));
        replaced(&select, base, &source).ok_or_else(|| {
            StepError::Refused(format!("{view} reads no table of {base}; was it made by hand?"))
        })
    }
}

/// The views over the tables of which `base` is the first.
fn views_over(base: &str) -> [String; 2] {
    match base.strip_prefix(FLEET) {
        Some(width) => [format!("fleet_{width}"), format!("fleet_parts_{width}")],
        None => ["readings", "states"].map(|of| base.replacen("windows", of, 1)),
    }
}

/// A statement with another source in the place of the first table whose name is `base` or begins with it and `_`, which
/// is written with its database or without, with FINAL or without; none where there is no such table.
fn replaced(select: &str, base: &str, source: &str) -> Option<String> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (at, end) = select.match_indices(base).find_map(|(at, _)| {
        let rest = &select[at + base.len()..];
        let end = at + base.len() + rest.find(|c| !of_name(c)).unwrap_or(rest.len());
        let is_whole =
            !select[..at].ends_with(of_name) && (rest.starts_with('_') || !rest.starts_with(of_name));
        is_whole.then_some((at, end))
    })?;
    let head = select[..at].trim_end_matches('`');
    let head = head.strip_suffix('.').map_or(head, |head| {
        let head = head.strip_suffix('`').map_or(head, |quoted| &quoted[..quoted.rfind('`').unwrap_or(0)]);
        head.trim_end_matches(of_name)
    });
    let tail = select[end..].trim_start_matches('`');
    let tail =
        tail.trim_start().strip_prefix("FINAL").filter(|rest| !rest.starts_with(of_name)).unwrap_or(tail);
    Some(format!("{head}{source}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_has_its_views() {
        assert_eq!(views_over("windows_1h"), ["readings_1h", "states_1h"]);
        assert_eq!(views_over("fleet_windows_1h"), ["fleet_1h", "fleet_parts_1h"]);
    }

    #[test]
    fn a_view_reads_another_table() {
        let names =
            ["w", "w_live", "w_g2", "db.w FINAL", "`d-b`.w_g12\nFINAL", "`d-b`.`w_live`", "db.`w`  FINAL"];
        for from in names {
            let select = format!("SELECT w.a, wa, aw_w FROM {from} GROUP BY a").replace("w.a", "x.a");
            let expected = "SELECT x.a, wa, aw_w FROM (x) GROUP BY a";
            assert_eq!(replaced(&select, "w", "(x)").unwrap(), expected, "{from}");
        }
        assert_eq!(replaced("SELECT a FROM w", "w", "(x)").unwrap(), "SELECT a FROM (x)");
        assert_eq!(
            replaced("SELECT a FROM (SELECT * FROM w)", "w", "x FINAL").unwrap(),
            "SELECT a FROM (SELECT * FROM x FINAL)"
        );
        assert_eq!(replaced("SELECT wa FROM ww", "w", "(x)"), None);
    }
}
