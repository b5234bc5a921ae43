//! The signals: SIGTERM and SIGINT end the process, SIGHUP has it read its configuration again.

use tokio::signal::unix::{SignalKind, signal};

/// A future that ends at the first SIGTERM or SIGINT. This must be called within a runtime.
pub(super) fn shutdown() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
    })
}

/// Calls `reload` at every SIGHUP, on a thread that may wait: it reads files, which may be far away
/// or not answer. Must be called within a runtime.
pub(super) fn on_hangup(
    reload: impl Fn() + Send + Sync + 'static,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut hangup = signal(SignalKind::hangup())?;
    let reload = std::sync::Arc::new(reload);
    Ok(async move {
        while hangup.recv().await.is_some() {
            let reload = std::sync::Arc::clone(&reload);
            if tokio::task::spawn_blocking(move || reload()).await.is_err() {
                tracing::error!("reading the configuration again failed by a fault of Osprey's");
            }
        }
    })
}
