//! The PostgreSQL wire: real clients, a session per connection, read only.
//!
//! [`handlers`] is one connection; [`service`] runs its statements; [`guard`] decides what they may be; [`errors`]
//! says what went wrong as PostgreSQL clients know it; [`socket`] notices that a client has gone.

mod errors;
mod guard;
mod handlers;
mod recorder;
mod service;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::api::ConnectionManager;
use datafusion_postgres::pgwire::tokio::process_socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::handlers::Handlers;
use crate::engine::Engine;

/// Connections beyond the limit that are told so at the same time; more are closed without a word.
const REFUSED_MAX: usize = 16;

/// How long telling a client that there is no room may take.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(2);

/// Accepts connections until `stop`; those still open then are cut.
pub(crate) async fn serve(listener: TcpListener, engine: Arc<Engine>, stop: CancellationToken) {
    let free = Arc::new(Semaphore::new(engine.limits().connections));
    let refusals = Arc::new(Semaphore::new(REFUSED_MAX));
    let manager = Arc::new(ConnectionManager::new());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (socket, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a PostgreSQL connection was not accepted");
                // Out of file descriptors, most likely: give others time to close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (engine, manager) = (Arc::clone(&engine), Arc::clone(&manager));
        if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
            connections.spawn(async move {
                let _permit = permit;
                let _counted = Counted::new();
                if let Err(error) = connection(socket, engine, manager).await {
                    tracing::debug!(%client, %error, "a PostgreSQL connection ended");
                }
            });
            continue;
        }
        tracing::warn!(%client, limit = engine.limits().connections, "too many PostgreSQL connections");
        let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() else { continue };
        connections.spawn(async move {
            let _permit = permit;
            let refusal = process_socket(socket, None, Arc::new(Handlers::refusing(engine, manager)));
            // A client that does not listen to it is none the worse for not hearing.
            let _ = tokio::time::timeout(REFUSAL_TIME_MAX, refusal).await;
        });
    }
    connections.shutdown().await;
}

/// Serves one client. What it runs is cancelled as soon as it goes.
async fn connection(
    socket: TcpStream,
    engine: Arc<Engine>,
    manager: Arc<ConnectionManager>,
) -> std::io::Result<()> {
    let gone = CancellationToken::new();
    let _cancel = gone.clone().drop_guard();
    let (socket, closed) = socket::watched(socket)?;
    let handlers = Arc::new(Handlers::new(engine, manager, gone.clone()));
    let served = process_socket(socket, None, handlers);
    tokio::pin!(served);
    tokio::select! {
        served = &mut served => return served,
        () = closed => gone.cancel(),
    }
    // Not cut here: what a client sent before it closed, a cancel request for instance, is still heard.
    served.await
}

/// One open connection, in the metrics.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("stillwell_pg_connections").increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("stillwell_pg_connections").decrement(1.0);
    }
}
