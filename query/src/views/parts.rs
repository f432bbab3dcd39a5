//! Whether an aggregate over totals may be made of their parts, one row for each source partition, which spares ClickHouse a
//! total of every machine, kind and window first.
//!
//! **Invariant:** the parts of a total have its machine, kind and time, its counts and sums are the sums of theirs, and its
//! extremes are theirs. So an aggregate is the same over the parts if all of it adds up as the totals themselves do, and
//! nothing picks totals but by what all their parts share.

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};

/// What all parts of a total share.
const KEYS: [&str; 3] = ["machine", "kind", "time"];
/// What the parts of a total add up to it.
const SUMS: [&str; 4] = ["count", "sum", "bad", "late"];
/// What is the greatest of the parts.
const GREATEST: [&str; 2] = ["max", "score"];
/// What is the least of the parts.
const LEAST: [&str; 1] = ["min"];

/// Whether the groups of totals that pass `filters`, and these aggregates of them, are those of the parts.
pub(super) fn are_enough(groups: &[Expr], aggregates: &[Expr], filters: &[Expr]) -> bool {
    let picked: Option<Vec<Picked<'_>>> = filters.iter().map(Picked::of).collect();
    let Some(picked) = picked else { return false };
    let extremes = picked.iter().filter_map(|picked| match picked {
        Picked::ByKey => None,
        Picked::ByExtreme(name) => Some(*name),
    });
    // Two of them may be had by two parts, neither of which has both.
    let extremes: BTreeSet<&str> = extremes.collect();
    extremes.len() <= 1
        && groups.iter().all(is_of_keys)
        && aggregates.iter().all(|aggregate| adds_up(aggregate, extremes.first().copied()))
}

/// How a filter picks totals.
enum Picked<'a> {
    /// By what all parts share.
    ByKey,
    /// Those that have this extreme at all: some of their parts have it, and it is that of those.
    ByExtreme(&'a str),
}

impl<'a> Picked<'a> {
    fn of(filter: &'a Expr) -> Option<Self> {
        if let Expr::IsNotNull(inner) = filter
            && let Expr::Column(Column { name, .. }) = inner.as_ref()
            && (GREATEST.contains(&name.as_str()) || LEAST.contains(&name.as_str()))
        {
            return Some(Self::ByExtreme(name));
        }
        is_of_keys(filter).then_some(Self::ByKey)
    }
}

fn is_of_keys(expr: &Expr) -> bool {
    expr.column_refs().iter().all(|column| KEYS.contains(&column.name.as_str()))
}

/// Whether an aggregate is the same over the parts; where totals are picked by an extreme, it must be of that or of keys.
fn adds_up(aggregate: &Expr, picked_by: Option<&str>) -> bool {
    let function = match aggregate {
        Expr::Alias(alias) => return adds_up(&alias.expr, picked_by),
        Expr::AggregateFunction(function) => function,
        _ => return false,
    };
    let AggregateFunction { func, params } = function;
    let AggregateFunctionParams { args, distinct, filter, .. } = params;
    let [arg] = args.as_slice() else { return false };
    if !filter.iter().all(|filter| is_of_keys(filter)) {
        return false;
    }
    let of_keys = is_of_keys(arg) && !arg.column_refs().is_empty();
    let column = column(arg);
    let is_one_of =
        |names: &[&str]| column.is_some_and(|of| names.contains(&of) && picked_by.is_none_or(|by| by == of));
    match (func.name(), *distinct) {
        ("count", true) => of_keys,
        ("sum", false) => is_one_of(&SUMS),
        ("min", false) => of_keys || is_one_of(&LEAST),
        ("max", false) => of_keys || is_one_of(&GREATEST),
        _ => false,
    }
}

/// The column that is aggregated, in whatever wider type.
fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Alias(alias) => column(&alias.expr),
        Expr::Cast(cast) => column(&cast.expr),
        _ => None,
    }
}
