//! Puts the read side together and runs it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use metrics_exporter_prometheus::PrometheusHandle;
use stillwell_schema::Clock;
use stillwell_schema::health::{Board, State};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::archive::Catalogue;
use crate::engine::Engine;
use crate::error::QueryError;
use crate::http::{self, Gateway};
use crate::machines::Machines;
use crate::pg;
use crate::pipeline::Pipeline;
use crate::reconcile::Reconciler;
use crate::reconcile::results::{self, Results, ResultsTable};
use crate::reconcile::rounds::Rounds;
use crate::settings::{Bound, QuerySettings};
use crate::views::Views;

/// Threads that plan and run statements.
const THREADS: usize = 2;

/// Room for the planner's recursion over deeply nested statements.
const STACK_BYTES: usize = 8 << 20;

/// How long statements that run at a stop may still take.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);

/// The read side, listening but not answering yet.
pub struct Server {
    http: TcpListener,
    pg: TcpListener,
    bound: Bound,
    gateway: Arc<Gateway>,
    /// None where there is no registry.
    machines: Option<Arc<Machines>>,
    views: Views,
    rounds: Rounds,
}

/// Takes both addresses and sets the engine up. Neither archive nor ClickHouse need to be there yet.
///
/// # Errors
/// [`QueryError::Listen`] or [`QueryError::Archive`].
pub async fn bind(
    settings: QuerySettings,
    board: Board,
    metrics: PrometheusHandle,
    clock: Arc<dyn Clock>,
) -> Result<Server, QueryError> {
    board.set("query", State::Starting, "");
    let (http, http_at) = listen(settings.http).await?;
    let (pg, pg_at) = listen(settings.pg).await?;
    let store = crate::archive::open(&settings)?;
    let catalogue = Arc::new(Catalogue::new(store, settings.topics.clone()));
    let views = Views::new(&settings.clickhouse, &settings.limits);
    let file = settings.machines_file.clone().filter(|_| settings.has_machines);
    let time = Arc::clone(&clock);
    let machines = tokio::task::spawn_blocking(move || Machines::open(file, time));
    let machines = Arc::new(machines.await.map_err(|error| QueryError::Internal(error.to_string()))?);
    let engine = Arc::new(Engine::new(&settings, &catalogue, &views, &machines)?);
    let found = Arc::new(Results::default());
    let table: Arc<dyn TableProvider> = Arc::new(ResultsTable::new(Arc::clone(&found)));
    engine.add_table(results::NAME, &table)?;
    let reconciler =
        Reconciler::over(Arc::clone(&engine), Arc::clone(&catalogue), views.clone(), Arc::clone(&clock));
    let rounds = Rounds::new(reconciler, found, settings.reconcile.clone(), board.clone());
    let pipeline = Pipeline::new(catalogue, views.clone(), board.clone());
    let (hosts, machines) = (settings.hosts, settings.has_machines.then_some(machines));
    let gateway = Arc::new(Gateway { engine, pipeline, board, metrics, clock, hosts });
    Ok(Server { http, pg, bound: Bound { http: http_at, pg: pg_at }, gateway, machines, views, rounds })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), QueryError> {
    let listener = async {
        let listener = tokio::net::TcpListener::bind(address).await?.into_std()?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listener.await.map_err(|source| QueryError::Listen { address, source })
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Answers until `stop`, on threads of its own, so that no statement holds up another stage.
    ///
    /// # Errors
    /// [`QueryError`] if it cannot start or breaks down.
    pub async fn run(self, stop: CancellationToken) -> Result<(), QueryError> {
        let internal = |error: &dyn std::error::Error| QueryError::Internal(error.to_string());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| internal(&error))?;
        let runtime = Apart(Some(runtime));
        let board = self.gateway.board.clone();
        let served = runtime.spawn(self.serve(stop)).await;
        let result =
            served.map_err(|error| internal(&error)).and_then(|served| served.map_err(|e| internal(&e)));
        match &result {
            Ok(()) => board.remove("query"),
            Err(error) => board.set("query", State::Failed, error.to_string()),
        }
        result
    }

    async fn serve(self, stop: CancellationToken) -> std::io::Result<()> {
        let http = tokio::net::TcpListener::from_std(self.http)?;
        let pg = tokio::net::TcpListener::from_std(self.pg)?;
        let engine = Arc::clone(&self.gateway.engine);
        let router = http::router(Arc::clone(&self.gateway));
        let (machines, views) = (self.machines, self.views);
        if let Some(machines) = machines {
            let (board, stopping) = (self.gateway.board.clone(), stop.clone());
            tokio::spawn(async move { machines.keep_fresh(&views, &board, &stopping).await });
        }
        self.gateway.board.set("query", State::Ok, "");
        tracing::info!(http = %self.bound.http, pg = %self.bound.pg, "query answers");
        let http = axum::serve(http, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN_TIME_MAX).await;
        };
        let http = async {
            tokio::select! {
                served = http => served,
                () = drained => Ok(()),
            }
        };
        let pg = pg::serve(pg, engine, stop.clone());
        let (served, (), ()) = tokio::join!(http, pg, self.rounds.run(stop.clone()));
        served
    }
}

/// A runtime inside another one's task: it may not be dropped there, but left to end by itself.
struct Apart(Option<Runtime>);

impl std::ops::Deref for Apart {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("the runtime is there until it is dropped")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
