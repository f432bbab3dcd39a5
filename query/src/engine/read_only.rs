//! Read only, enforced on the parsed statement before anything is planned.

use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement};

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
        Statement::Query(query) => check_query(query),
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

/// A query may hide a change in a common table expression, a set operand, or SELECT INTO.
fn check_query(query: &Query) -> Result<(), QueryError> {
    if let Some(with) = &query.with {
        with.cte_tables.iter().try_for_each(|cte| check_query(&cte.query))?;
    }
    if !query.locks.is_empty() {
        return Err(refused("FOR UPDATE"));
    }
    check_body(&query.body)
}

fn check_body(body: &SetExpr) -> Result<(), QueryError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => Err(refused("SELECT INTO")),
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Query(query) => check_query(query),
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
