//! The signals: SIGTERM and SIGINT end the process, SIGHUP has it read its configuration again.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT. Must be called within a runtime.
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

/// Awaits `reload` at every SIGHUP, one at a time. Must be called within a runtime.
pub(super) fn on_hangup<F: Future<Output = ()> + Send>(
    reload: impl Fn() -> F + Send + 'static,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            reload().await;
        }
    })
}
