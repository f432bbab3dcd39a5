//! One connection's handlers, and errors as PostgreSQL clients know them.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_postgres::DfSessionService;
use datafusion_postgres::hooks::QueryHook;
use datafusion_postgres::hooks::cursor::CursorStatementHook;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::auth::noop::NoopStartupHandler;
use datafusion_postgres::pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::{ClientInfo, ConnectionManager, ErrorHandler, PgWireServerHandlers};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};

use super::guard::ReadOnlyHook;
use crate::error::QueryError;

/// What serves one connection.
pub(super) struct Handlers {
    service: Arc<DfSessionService>,
    startup: Arc<Startup>,
    cancel: Arc<DefaultCancelHandler>,
}

impl Handlers {
    pub(super) fn new(session: SessionContext, manager: Arc<ConnectionManager>) -> Self {
        let hooks: Vec<Arc<dyn QueryHook>> = vec![
            Arc::new(ReadOnlyHook),
            Arc::new(CursorStatementHook),
            Arc::new(SetShowHook),
            Arc::new(TransactionStatementHook),
        ];
        Self {
            service: Arc::new(DfSessionService::new_with_hooks(Arc::new(session), hooks)),
            startup: Arc::new(Startup(Arc::clone(&manager))),
            cancel: Arc::new(DefaultCancelHandler::new(manager)),
        }
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.service)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::clone(&self.service)
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.startup)
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::new(Errors)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::clone(&self.cancel)
    }
}

/// Lets everyone in who reaches the port; the connection can be cancelled from another one.
struct Startup(Arc<ConnectionManager>);

impl NoopStartupHandler for Startup {
    fn connection_manager(&self) -> Option<Arc<ConnectionManager>> {
        Some(Arc::clone(&self.0))
    }
}

struct Errors;

impl ErrorHandler for Errors {
    fn on_error<C: ClientInfo>(&self, _: &C, error: &mut PgWireError) {
        let PgWireError::ApiError(inner) = error else { return };
        let ours = if let Some(engine) = inner.downcast_ref::<DataFusionError>() {
            QueryError::from(engine)
        } else if let Some(parser) = inner.downcast_ref::<ParserError>() {
            QueryError::from(DataFusionError::SQL(Box::new(parser.clone()), None))
        } else {
            QueryError::Internal(inner.to_string())
        };
        *error = wire_error(&ours);
    }
}

/// An error with its SQLSTATE.
pub(super) fn wire_error(error: &QueryError) -> PgWireError {
    metrics::counter!("stillwell_sql_total", "outcome" => error.outcome()).increment(1);
    let message = match error {
        QueryError::Statement { message, position: Some(at) } if !message.contains("Line: ") => {
            format!("{message} (line {}, column {})", at.line, at.column)
        }
        other => other.to_string(),
    };
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".into(), error.sqlstate().into(), message)))
}
