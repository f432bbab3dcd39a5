//! Read only, enforced on the parsed statement before anything is planned.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement, Visit, Visitor};

use crate::error::QueryError;

/// Lets SELECT, WITH, VALUES, EXPLAIN, SHOW and DESCRIBE pass.
pub(crate) fn check(statement: &EngineStatement) -> Result<(), QueryError> {
    match statement {
        EngineStatement::Statement(statement) => check_sql(statement),
        EngineStatement::Explain(explain) => check(&explain.statement),
        EngineStatement::CopyTo(_) => Err(refused("COPY")),
        EngineStatement::CreateExternalTable(_) => Err(refused("CREATE EXTERNAL TABLE")),
        other => Err(refused(first_words(&other.to_string()))),
    }
}

/// The same for a statement of the SQL parser alone.
pub(crate) fn check_sql(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Query(query) => match query.visit(&mut EachQuery) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        },
        Statement::Explain { statement, .. } => check_sql(statement),
        Statement::ExplainTable { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowFunctions { .. }
        | Statement::ShowCatalogs { .. } => Ok(()),
        other => Err(refused(first_words(&other.to_string()))),
    }
}

/// A change may hide in a query at any depth: a common table expression, a set operand, a subquery.
struct EachQuery;

impl Visitor for EachQuery {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        if !query.locks.is_empty() {
            return ControlFlow::Break(refused("FOR UPDATE"));
        }
        check_body(&query.body).map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }
}

/// Queries in parentheses are visited by themselves.
fn check_body(body: &SetExpr) -> Result<(), QueryError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => Err(refused("SELECT INTO")),
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) | SetExpr::Query(_) => Ok(()),
        SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Insert(_) => Err(refused("INSERT")),
        SetExpr::Update(_) => Err(refused("UPDATE")),
        SetExpr::Delete(_) => Err(refused("DELETE")),
        SetExpr::Merge(_) => Err(refused("MERGE")),
    }
}

fn first_words(statement: &str) -> String {
    statement.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_uppercase()
}

fn refused(statement: impl Into<String>) -> QueryError {
    QueryError::ReadOnly { statement: statement.into() }
}
