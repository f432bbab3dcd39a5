//! The way from async code to the compute threads.

use tokio::sync::oneshot;

/// Runs `f` on the rayon pool and awaits its value. A panic in `f` is raised again here.
pub async fn compute<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = oneshot::channel();
    rayon::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // Whoever asked may be gone; then nobody wants the value.
        let _ = done.send(outcome);
    });
    match result.await {
        Ok(Ok(value)) => value,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        // The pool drops no task unrun.
        Err(_) => std::future::pending().await,
    }
}
