//! Refuses on the wire what could change anything, before it is planned.
//!
//! Clients open transactions, set how values look and declare cursors as a matter of course; that stays allowed,
//! and concerns their own connection alone.

use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{Set, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::results::Response;
use datafusion_postgres::pgwire::error::PgWireResult;

use super::service::wire_error;
use crate::engine::read_only;
use crate::error::QueryError;

/// What a client may set: how values look, and what other servers would do.
const SETTABLE: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
];

/// First of the hooks.
pub(super) struct ReadOnlyHook;

#[async_trait]
impl QueryHook for ReadOnlyHook {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        check(statement).err().map(|error| Err(wire_error(&error)))
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        check(statement).err().map(|error| Err(wire_error(&error)))
    }

    async fn handle_extended_query(
        &self,
        _: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        _: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        None
    }
}

fn check(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Fetch { .. }
        | Statement::Close { .. } => Ok(()),
        Statement::Declare { stmts } => stmts.iter().try_for_each(|declared| match &declared.for_query {
            Some(query) => read_only::check_sql(&Statement::Query(query.clone())),
            None => Err(QueryError::statement("a cursor needs FOR and a query")),
        }),
        Statement::Set(set) => check_set(set),
        other => read_only::check_sql(other),
    }
}

fn check_set(set: &Set) -> Result<(), QueryError> {
    match set {
        Set::SetTimeZone { .. }
        | Set::SetNames { .. }
        | Set::SetNamesDefault {}
        | Set::SetTransaction { .. } => Ok(()),
        Set::SingleAssignment { variable, .. }
            if SETTABLE.contains(&variable.to_string().to_lowercase().as_str()) =>
        {
            Ok(())
        }
        other => Err(QueryError::ReadOnly { statement: other.to_string() }),
    }
}
