//! The PostgreSQL wire: real clients, a session per connection, read only.

mod guard;
mod service;

use std::sync::Arc;

use datafusion_postgres::pgwire::api::ConnectionManager;
use datafusion_postgres::pgwire::tokio::process_socket;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// Accepts connections until `stop`; those still open then are cut.
pub(crate) async fn serve(listener: TcpListener, engine: Arc<Engine>, stop: CancellationToken) {
    let free = Arc::new(Semaphore::new(engine.limits().connections));
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
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            tracing::warn!(%client, limit = engine.limits().connections, "too many PostgreSQL connections");
            continue;
        };
        let handlers = service::Handlers::new(engine.connection(), Arc::clone(&manager));
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = process_socket(socket, None, Arc::new(handlers)).await {
                tracing::debug!(%client, %error, "a PostgreSQL connection ended");
            }
        });
    }
    connections.shutdown().await;
}
