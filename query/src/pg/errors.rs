//! Errors as PostgreSQL clients know them: SQLSTATE, and the place in their own text.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};

use crate::error::QueryError;

/// One of our errors on its way through the wire's library.
pub(super) fn boxed(error: QueryError) -> PgWireError {
    PgWireError::ApiError(Box::new(error))
}

/// What an error of the wire's library means here; none where it is the library's own.
pub(super) fn ours(error: PgWireError) -> Result<QueryError, PgWireError> {
    match error {
        PgWireError::ApiError(inner) => Ok(match inner.downcast::<QueryError>() {
            Ok(ours) => *ours,
            Err(inner) => foreign(&*inner),
        }),
        PgWireError::QueryCanceled => Ok(QueryError::Cancelled),
        other => Err(other),
    }
}

fn foreign(error: &(dyn std::error::Error + Send + Sync + 'static)) -> QueryError {
    if let Some(engine) = error.downcast_ref::<DataFusionError>() {
        QueryError::from(engine)
    } else if let Some(parser) = error.downcast_ref::<ParserError>() {
        QueryError::from(DataFusionError::SQL(Box::new(parser.clone()), None))
    } else {
        QueryError::Internal(error.to_string())
    }
}

/// What the client is told; `text` is the statement as it wrote it, where an error's position counts in it.
pub(super) fn wire_error(error: &QueryError, text: Option<&str>) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".into(), error.sqlstate().into(), error.to_string());
    let at = error.position().zip(text).and_then(|(position, text)| position.in_characters(text));
    info.position = at.map(|at| at.to_string());
    PgWireError::UserError(Box::new(info))
}
