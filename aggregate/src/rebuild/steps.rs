//! The steps of a rebuild.
//!
//! A swap: lanes move to the new table while readers still see the old one, which then stands still; when every lane
//! has reached in the new one what it had shown in the old, the readers of each view are moved in one statement. So no
//! reader ever sees fewer readings than before, or one twice. The old table stays for an undo, which goes the same way
//! back: the readings since are folded into it from the archive first, as Kafka may not have them any more.

use std::sync::Arc;

use serde_json::{Value, json};
use stillwell_schema::TopicPartition;

use super::fold::{self, Folder, Reach};
use super::history::{Extent, Filter};
use super::plan::{Mode, Plan, PlannedLane};
use super::{Rebuild, blocking, compare, live};
use crate::saga::{Saga, StepError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// An empty table.
    Create,
    /// The archive is folded into it.
    Fold,
    /// What was folded beyond the scope goes.
    Trim,
    /// What is outside the scope is taken over as it is.
    TakeOver,
    /// Scores are taken over.
    Scores,
    /// It is compared with the one in use.
    Compare,
    /// Somebody says that it is to be swapped.
    Approve,
    /// It is built further, up to now: it may have waited for long, and lanes go on from there.
    Refresh,
    /// Lanes write to it.
    Move,
    /// They have reached there what readers see.
    CatchUp,
    /// Readers see it.
    Swap,
    /// It is dropped.
    Discard,
    /// It is shown beside the one in use.
    Show,
}

use Step::{
    Approve, CatchUp, Compare, Create, Discard, Fold, Move, Refresh, Scores, Show, Swap, TakeOver, Trim,
};

const SWAP: [Step; 11] =
    [Create, Fold, Trim, TakeOver, Scores, Compare, Approve, Refresh, Move, CatchUp, Swap];
const DIFF: [Step; 5] = [Create, Fold, Trim, Compare, Discard];
const AS_OF: [Step; 4] = [Create, Fold, Trim, Show];

const SWAP_NAMES: [&str; 11] = [
    "create",
    "fold",
    "trim",
    "take_over",
    "scores",
    "compare",
    "approve",
    "refresh",
    "move",
    "catch_up",
    "swap",
];
const DIFF_NAMES: [&str; 5] = ["create", "fold", "trim", "compare", "discard"];
const AS_OF_NAMES: [&str; 4] = ["create", "fold", "trim", "show"];

fn steps(mode: Mode) -> &'static [Step] {
    match mode {
        Mode::Swap => &SWAP,
        Mode::Diff => &DIFF,
        Mode::AsOf => &AS_OF,
    }
}

/// The names of the steps of a plan.
#[must_use]
pub fn names(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Swap => &SWAP_NAMES,
        Mode::Diff => &DIFF_NAMES,
        Mode::AsOf => &AS_OF_NAMES,
    }
}

impl Saga for Rebuild {
    fn steps(&self) -> &[&'static str] {
        names(self.plan.mode)
    }

    async fn forward(&self, step: usize) -> Result<Value, StepError> {
        let (plan, tables, base) = (&self.plan, &self.tables, self.plan.base());
        match steps(plan.mode)[step] {
            Create => tables.create(&plan.table, &plan.old).await?,
            Fold => fold::lanes(self.folder(&plan.table, true), reaches(plan)).await?,
            Trim => tables.trim(plan).await?,
            TakeOver => tables.copy(plan).await?,
            Scores => tables.score(&plan.old, &plan.table).await?,
            Compare => {
                let comparison = compare::compare(tables, plan).await?;
                let detail = json!(comparison);
                self.compared(comparison);
                return Ok(detail);
            }
            Approve => (self.approve)(self.comparison().as_ref()).map_err(StepError::Paused)?,
            Refresh => self.refresh().await?,
            Move => {
                self.is_still(&plan.old).await?;
                // What was scored since the scores were taken over.
                tables.score(&plan.old, &plan.table).await?;
                tables.turn(base, &plan.table, &plan.id()).await?;
            }
            CatchUp => tables.reached(&plan.table, &plan.old, &self.watch).await?,
            Swap => tables.show(base, &plan.table).await?,
            Discard => tables.remove(&plan.table, base).await?,
            Show => tables.show_beside(plan).await?,
        }
        Ok(Value::Null)
    }

    async fn compensate(&self, step: usize) -> Result<Value, StepError> {
        let (plan, tables, base) = (&self.plan, &self.tables, self.plan.base());
        match steps(plan.mode)[step] {
            Create => tables.remove(&plan.table, base).await?,
            // Lanes move back, and then readers.
            Swap => self.back().await?,
            // Readers see the old table still, or again.
            CatchUp | Move => {
                if tables.generation(base).await?.table_name == plan.table {
                    self.back().await?;
                }
            }
            Show => tables.drop_view(&plan.as_of_view()).await?,
            // What they did is gone with the table.
            Fold | Trim | TakeOver | Scores | Compare | Approve | Refresh | Discard => {}
        }
        Ok(Value::Null)
    }

    async fn may_undo(&self) -> Result<(), StepError> {
        let plan = &self.plan;
        if plan.mode != Mode::Swap {
            return Ok(());
        }
        let now = self.tables.generation(plan.base()).await?;
        if now.table_name != plan.table && now.table_name != plan.old {
            let why = format!(
                "{} is shown from {} since {}; undo that first: `stillwell saga undo {}`",
                plan.view, now.table_name, now.saga, now.saga
            );
            return Err(StepError::Refused(why));
        }
        if !self.tables.exists(&plan.old).await? {
            let why = format!("its table {} is gone; rebuild {} instead", plan.old, plan.view);
            return Err(StepError::Refused(why));
        }
        Ok(())
    }

    async fn forget(&self) -> Result<Value, StepError> {
        let (plan, tables, base) = (&self.plan, &self.tables, self.plan.base());
        match plan.mode {
            Mode::Swap => {
                if tables.generation(base).await?.table_name == plan.old {
                    let why = format!("{} is in use", plan.old);
                    return Err(StepError::Refused(why));
                }
                tables.remove(&plan.old, base).await?;
            }
            Mode::AsOf => {
                tables.drop_view(&plan.as_of_view()).await?;
                tables.remove(&plan.table, base).await?;
            }
            Mode::Diff => {}
        }
        Ok(Value::Null)
    }
}

impl Rebuild {
    fn folder(&self, table: &str, is_built: bool) -> Folder {
        Folder {
            store: self.tables.store.clone(),
            history: Arc::clone(&self.history),
            shown: self.plan.shown(),
            // Lanes count no reading of a series that they refuse; as of a moment, all readings are meant.
            is_of_known: self.plan.is_of_totals() && self.plan.mode != Mode::AsOf,
            table: table.to_owned(),
            filter: if is_built { self.plan.filter() } else { Filter::default() },
            is_built,
            watch: Arc::clone(&self.watch),
        }
    }

    /// The table that it was compared with, and whose rows it holds, is still the one in use.
    async fn is_still(&self, old: &str) -> Result<(), StepError> {
        let now = self.tables.generation(self.plan.base()).await?;
        if now.table_name == old || now.table_name == self.plan.table {
            return Ok(());
        }
        let why = format!("{} has taken the place of {old} meanwhile; undo this one", now.table_name);
        Err(StepError::Refused(why))
    }

    /// Folds what the archive has got since, and takes over again what is outside the scope, which is further now.
    async fn refresh(&self) -> Result<(), StepError> {
        self.is_still(&self.plan.old).await?;
        let lanes = live(&self.tables, &self.extents().await?).await?;
        let plan = Plan { lanes, ..self.plan.clone() };
        fold::lanes(self.folder(&plan.table, true), reaches(&plan)).await?;
        self.tables.trim(&plan).await?;
        Ok(self.tables.copy(&plan).await?)
    }

    /// Lanes write to the old table again, and readers see it when it is as far as the new one.
    async fn back(&self) -> Result<(), StepError> {
        let (plan, tables, base) = (&self.plan, &self.tables, self.plan.base());
        if tables.generation(base).await?.table_name == plan.table {
            let reaches = self.since().await?;
            fold::lanes(self.folder(&plan.old, false), reaches).await?;
            tables.score(&plan.table, &plan.old).await?;
            tables.turn(base, &plan.old, &plan.id()).await?;
        }
        tables.reached(&plan.old, &plan.table, &self.watch).await?;
        tables.show(base, &plan.old).await
    }

    /// What lanes have folded into the new table since they left the old one, as far as the archive has it.
    async fn since(&self) -> Result<Vec<Reach>, StepError> {
        let (old, new) =
            (self.tables.positions(&self.plan.old).await?, self.tables.positions(&self.plan.table).await?);
        let extents = self.extents().await?;
        let reach = |(lane, first): (&TopicPartition, &i64)| {
            let range = extents.iter().find(|extent| extent.lane == *lane)?.range;
            let until = new.get(lane)?.min(&range.next.0);
            let is_there = range.first.0 <= *first && first < until;
            is_there.then(|| Reach { lane: lane.clone(), first: *first, until: *until })
        };
        Ok(old.iter().filter_map(reach).collect())
    }

    /// How far the archive is now.
    async fn extents(&self) -> Result<Vec<Extent>, StepError> {
        let history = Arc::clone(&self.history);
        let read = blocking(move || history.extents(None, &Filter::default())).await?;
        read.map_err(StepError::Elsewhere)
    }
}

fn reaches(plan: &Plan) -> Vec<Reach> {
    let reach = |lane: &PlannedLane| Reach { lane: lane.id(), first: lane.first, until: lane.until };
    plan.built().map(reach).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_name() {
        for mode in [Mode::Swap, Mode::Diff, Mode::AsOf] {
            assert_eq!(steps(mode).len(), names(mode).len());
            for (step, name) in steps(mode).iter().zip(names(mode)) {
                assert_eq!(format!("{step:?}").to_lowercase(), name.replace('_', ""));
            }
        }
    }
}
