//! Runs the statements of one connection: within the bounds, in a slot, on one snapshot each, and until their
//! time is up, they are cancelled, or the client goes.
//!
//! The library stops caring once a statement has a stream of rows, and the rows are sent later. The plan itself
//! ends the stream (`engine/deadline.rs`); this module tells it when.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser as SqlParser;
use datafusion_postgres::hooks::cursor::CursorStatementHook;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{FieldInfo, Response};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, ConnectionHandle, DEFAULT_NAME, Type};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::Execute;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::simplequery::Query;
use datafusion_postgres::{DfSessionService, Parser, QueryHook};
use futures::Sink;
use tokio_util::sync::CancellationToken;

use super::errors::{boxed, ours};
use super::guard::{ReadOnlyHook, is_rollback_to};
use super::recorder::{Recorder, recorded};
use crate::archive::Pin;
use crate::engine::running::Running;
use crate::engine::{self, Engine, bounds};
use crate::error::{Mistake, QueryError};

/// Where the library keeps a client's `statement_timeout`.
pub(super) const TIMEOUT_KEY: &str = "statement_timeout_ms";

/// A statement as the library keeps it: its text, and what it was parsed and planned to.
type Prepared = (String, Option<(Statement, LogicalPlan)>);

/// What the statements of one connection share.
pub(super) struct Connection {
    engine: Arc<Engine>,
    session: Arc<SessionContext>,
    gone: CancellationToken,
    now: Mutex<Message>,
}

/// One message of the client, and what runs for it.
#[derive(Default)]
struct Message {
    cancelled: CancellationToken,
    running: Option<Arc<Running>>,
}

impl Connection {
    /// Begins one statement: all those of a message share a slot and an end, and each has a snapshot of its own.
    pub(super) async fn begin(&self, client: &(dyn ClientInfo + Send + Sync)) -> Result<(), QueryError> {
        let (cancelled, running) = {
            let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            (now.cancelled.clone(), now.running.clone())
        };
        let running = match running {
            Some(running) => running,
            None => self.engine.begin(timeout(client), cancelled).await?,
        };
        self.now.lock().unwrap_or_else(PoisonError::into_inner).running = Some(Arc::clone(&running));
        let state = self.session.state_ref();
        let mut state = state.write();
        state.config_mut().set_extension(running);
        state.config_mut().set_extension(Arc::new(Pin::default()));
        Ok(())
    }

    fn start(&self) -> Started<'_> {
        let cancelled = self.gone.child_token();
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Message { cancelled, running: None };
        Started(self)
    }

    /// An error with its place in what the client wrote, which the library plans in other words.
    async fn locate(&self, error: PgWireError, text: &str) -> PgWireError {
        match ours(error) {
            Ok(QueryError::Statement { message, mistake, .. }) => {
                let state = self.session.state();
                let position = engine::locate(&state, text).await;
                boxed(QueryError::Statement { message, mistake, position })
            }
            Ok(error) => boxed(error),
            Err(other) => other,
        }
    }
}

fn timeout(client: &(dyn ClientInfo + Send + Sync)) -> Option<Duration> {
    client.metadata().get(TIMEOUT_KEY)?.parse().ok().map(Duration::from_millis)
}

/// Leaves the message's slot to its streams, however the message ends.
struct Started<'a>(&'a Connection);

impl Started<'_> {
    /// What runs for the message now; none where nothing was planned for it.
    fn running(&self) -> Option<Arc<Running>> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).running.clone()
    }

    /// Lets a cancel request reach streams too: the library listens for it only until they begin.
    async fn listen(&self, client: &(impl ClientInfo + Sync)) {
        let Some(running) = self.running() else { return };
        let Some(handle) = client.session_extensions().get::<Arc<ConnectionHandle>>() else { return };
        let asked = handle.start_query().await;
        let cancelled = running.cancelled().clone();
        tokio::spawn(async move {
            // An error says that the next statement has taken the handle over, or that the client has gone.
            if asked.await.is_ok() {
                cancelled.cancel();
            }
        });
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let running = self.0.now.lock().unwrap_or_else(PoisonError::into_inner).running.take();
        if let Some(running) = running {
            running.leave();
        }
    }
}

/// The statements of one connection.
pub(super) struct Service {
    connection: Arc<Connection>,
    inner: DfSessionService,
}

impl Service {
    pub(super) fn new(engine: Arc<Engine>, gone: CancellationToken) -> Self {
        let session = Arc::new(engine.connection());
        let now = Mutex::default();
        let connection = Arc::new(Connection { engine, session: Arc::clone(&session), gone, now });
        let hooks: Vec<Arc<dyn QueryHook>> = vec![
            Arc::new(ReadOnlyHook(Arc::clone(&connection))),
            Arc::new(CursorStatementHook),
            Arc::new(SetShowHook),
            Arc::new(TransactionStatementHook),
        ];
        Self { connection, inner: DfSessionService::new_with_hooks(session, hooks) }
    }
}

/// Lets a failed transaction go on, which the library has no answer for: it must be so before the answer.
fn go_on(client: &mut impl ClientInfo) {
    if client.transaction_status() == TransactionStatus::Error {
        client.set_transaction_status(TransactionStatus::Transaction);
    }
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if client.transaction_status() == TransactionStatus::Error
            && bounds::check(&query.query).is_ok_and(|statements| statements == 1)
            && let Ok([statement]) = SqlParser::parse_sql(&PostgreSqlDialect {}, &query.query).as_deref()
            && is_rollback_to(statement)
        {
            go_on(client);
        }
        self._on_query(client, query).await
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let recorder = Recorder::new(Instant::now());
        let started = self.connection.start();
        let answered = match bounds::check(query) {
            Ok(_) => SimpleQueryHandler::do_query(&self.inner, client, query).await,
            Err(error) => Err(boxed(error)),
        };
        match answered {
            Ok(responses) if started.running().is_some() => {
                started.listen(client).await;
                let each = |response| recorded(response, recorder.another());
                let responses = responses.into_iter().map(each).collect();
                recorder.forget();
                Ok(responses)
            }
            Ok(responses) => {
                recorder.forget();
                Ok(responses)
            }
            Err(error) => {
                let error = self.connection.locate(error, query).await;
                Err(recorder.failed(error, Some(query)))
            }
        }
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = Prepared;
    type QueryParser = Preparer;

    fn query_parser(&self) -> Arc<Self::QueryParser> {
        let connection = Arc::clone(&self.connection);
        Arc::new(Preparer { connection, inner: self.inner.query_parser() })
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if let Some(Entry::Value(portal)) = client.portal_store().get_portal(name)
            && let Some((statement, _)) = &portal.statement.statement.1
            && is_rollback_to(statement)
        {
            go_on(client);
        }
        self._on_execute(client, message).await
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let recorder = Recorder::new(Instant::now());
        let started = self.connection.start();
        match ExtendedQueryHandler::do_query(&self.inner, client, portal, max_rows).await {
            Ok(response) if started.running().is_some() => {
                started.listen(client).await;
                Ok(recorded(response, recorder))
            }
            Ok(response) => {
                recorder.forget();
                Ok(response)
            }
            Err(error) => Err(recorder.failed(error, None)),
        }
    }
}

/// Prepares statements within the bounds.
pub(super) struct Preparer {
    connection: Arc<Connection>,
    inner: Arc<Parser>,
}

#[async_trait]
impl QueryParser for Preparer {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Self::Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let recorder = Recorder::new(Instant::now());
        let prepared = match bounds::check(sql) {
            Ok(0 | 1) => self.inner.parse_sql(client, sql, types).await,
            Ok(_) => Err(boxed(QueryError::Statement {
                message: "several statements cannot be prepared as one".to_owned(),
                mistake: Mistake::Syntax,
                position: None,
            })),
            Err(error) => Err(boxed(error)),
        };
        match prepared {
            Ok(prepared) => {
                recorder.forget();
                Ok(prepared)
            }
            Err(error) => {
                let error = self.connection.locate(error, sql).await;
                Err(recorder.failed(error, Some(sql)))
            }
        }
    }

    fn get_parameter_types(&self, statement: &Self::Statement) -> PgWireResult<Vec<Type>> {
        self.inner.get_parameter_types(statement)
    }

    fn get_result_schema(
        &self,
        statement: &Self::Statement,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        self.inner.get_result_schema(statement, format)
    }
}
