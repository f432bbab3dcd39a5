//! Refuses on the wire what could change anything, before it is planned, and begins what may run.
//!
//! Clients open transactions and savepoints, set how values look and declare cursors as a matter of course; that
//! stays allowed, and concerns their own connection alone.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{DiscardObject, Set, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::error::PgWireResult;

use super::errors::boxed;
use super::service::{Connection, TIMEOUT_KEY};
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
pub(super) struct ReadOnlyHook(pub(super) Arc<Connection>);

#[async_trait]
impl QueryHook for ReadOnlyHook {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.admit(statement, client).await
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        if let Err(error) = check(statement) {
            return Some(Err(boxed(error)));
        }
        let nothing = EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) };
        is_formality(statement).then(|| Ok(LogicalPlan::EmptyRelation(nothing)))
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        _: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.admit(statement, client).await
    }
}

impl ReadOnlyHook {
    /// Refuses it, answers it, or lets it run.
    async fn admit(
        &self,
        statement: &Statement,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        if let Err(error) = check(statement) {
            return Some(Err(boxed(error)));
        }
        if is_formality(statement) {
            return Some(Ok(answer(statement, client)));
        }
        if runs(statement)
            && let Err(error) = self.0.begin(&*client).await
        {
            return Some(Err(boxed(error)));
        }
        None
    }
}

/// Whether a plan is made and run for it.
fn runs(statement: &Statement) -> bool {
    !matches!(
        statement,
        Statement::StartTransaction { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Fetch { .. }
            | Statement::Close { .. }
            | Statement::Set(_)
            | Statement::ShowVariable { .. }
    )
}

/// Whether it takes a failed transaction back to a savepoint.
pub(super) fn is_rollback_to(statement: &Statement) -> bool {
    matches!(statement, Statement::Rollback { savepoint: Some(_), .. })
}

/// Whether it is answered without a plan: a read-only session has nothing to roll back to, and only its time
/// limit is worth resetting.
fn is_formality(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Savepoint { .. }
            | Statement::ReleaseSavepoint { .. }
            | Statement::Rollback { savepoint: Some(_), .. }
            | Statement::Discard { .. }
            | Statement::Reset(_)
            | Statement::Deallocate { .. }
    )
}

fn answer(statement: &Statement, client: &mut dyn HookClient) -> Response {
    let tag = match statement {
        Statement::Savepoint { .. } => "SAVEPOINT",
        Statement::ReleaseSavepoint { .. } => "RELEASE",
        Statement::Rollback { .. } => "ROLLBACK",
        Statement::Discard { object_type: DiscardObject::ALL } => {
            client.portal_store().clear_portals();
            client.metadata_mut().remove(TIMEOUT_KEY);
            "DISCARD ALL"
        }
        Statement::Discard { .. } => "DISCARD",
        Statement::Deallocate { name, .. } => {
            client.portal_store().rm_statement(&name.value);
            "DEALLOCATE"
        }
        _ => {
            client.metadata_mut().remove(TIMEOUT_KEY);
            "RESET"
        }
    };
    Response::Execution(Tag::new(tag))
}

fn check(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        formality if is_formality(formality) => Ok(()),
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
