//! One connection as the wire's library sees it.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::auth::noop::NoopStartupHandler;
use datafusion_postgres::pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::{ClientInfo, ConnectionManager, ErrorHandler, PgWireServerHandlers};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::Sink;
use tokio_util::sync::CancellationToken;

use super::errors::{ours, wire_error};
use super::service::Service;
use crate::engine::Engine;

/// What serves one connection.
pub(super) struct Handlers {
    service: Arc<Service>,
    startup: Arc<Startup>,
    cancel: Arc<DefaultCancelHandler>,
}

impl Handlers {
    /// A connection whose statements end when `gone` does.
    pub(super) fn new(engine: Arc<Engine>, manager: Arc<ConnectionManager>, gone: CancellationToken) -> Self {
        Self::with(Startup { manager, full: None }, engine, gone)
    }

    /// A connection beyond the limit: it is told so when it says who it is. It may still cancel others.
    pub(super) fn refusing(engine: Arc<Engine>, manager: Arc<ConnectionManager>) -> Self {
        let full = Some(engine.limits().connections);
        Self::with(Startup { manager, full }, engine, CancellationToken::new())
    }

    fn with(startup: Startup, engine: Arc<Engine>, gone: CancellationToken) -> Self {
        let cancel = Arc::new(DefaultCancelHandler::new(Arc::clone(&startup.manager)));
        Self { service: Arc::new(Service::new(engine, gone)), startup: Arc::new(startup), cancel }
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

/// Lets everyone in who reaches the port, while there is room; the connection can be cancelled from another one.
struct Startup {
    manager: Arc<ConnectionManager>,
    full: Option<usize>,
}

#[async_trait]
impl NoopStartupHandler for Startup {
    fn connection_manager(&self) -> Option<Arc<ConnectionManager>> {
        Some(Arc::clone(&self.manager))
    }

    async fn post_startup<C>(&self, _: &mut C, _: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some(limit) = self.full else { return Ok(()) };
        let message = format!("all {limit} connections are taken; close one, or try again");
        Err(PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".into(), "53300".into(), message))))
    }
}

/// For errors that no statement's own handling has dressed yet.
struct Errors;

impl ErrorHandler for Errors {
    fn on_error<C: ClientInfo>(&self, _: &C, error: &mut PgWireError) {
        let taken = std::mem::replace(error, PgWireError::QueryCanceled);
        *error = match ours(taken) {
            Ok(ours) => wire_error(&ours, None),
            Err(other) => other,
        };
    }
}
