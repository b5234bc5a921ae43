//! The signals: SIGTERM and SIGINT end the process, a further one ends what it waits for then; SIGHUP has it
//! read its configuration again; SIGUSR2 has it start the process that takes over.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The signals that end the process, as they come.
pub(super) struct Endings {
    count: watch::Sender<u32>,
}

/// Ends the process as the first of those signals does.
pub(super) struct Ending(watch::Sender<u32>);

impl Ending {
    /// Begins the end, if it has not begun.
    pub(super) fn begin(&self) {
        let begun = self.0.send_if_modified(|count| {
            let begins = *count == 0;
            *count += u32::from(begins);
            begins
        });
        if begun {
            tracing::info!(command = "DRAIN", "shutting down");
        }
    }
}

impl Endings {
    /// Counts SIGTERM and SIGINT from now on. Must be called within a runtime.
    pub(super) fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let count = watch::Sender::new(0);
        let counting = count.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                counting.send_modify(|count| *count += 1);
                if *counting.borrow() == 1 {
                    tracing::info!(signal = name, "shutting down");
                } else {
                    tracing::info!(signal = name, "not waiting any longer");
                }
            }
        });
        Ok(Self { count })
    }

    /// What ends the process by a command.
    pub(super) fn by_command(&self) -> Ending {
        Ending(self.count.clone())
    }

    /// Resolves once a further one has come.
    pub(super) fn next(&self) -> impl Future<Output = ()> + Send + 'static {
        self.have_come(*self.count.borrow() + 1)
    }

    /// Resolves once `count` of them have come.
    pub(super) fn have_come(&self, count: u32) -> impl Future<Output = ()> + Send + 'static {
        let mut counted = self.count.subscribe();
        async move {
            if counted
                .wait_for(|have_come| *have_come >= count)
                .await
                .is_err()
            {
                // Nobody listens any more, so that none comes.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Calls `start` at every SIGUSR2. Must be called within a runtime.
pub(super) fn on_user2(
    start: impl Fn() + Send + 'static,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut user2 = signal(SignalKind::user_defined2())?;
    Ok(async move {
        while user2.recv().await.is_some() {
            start();
        }
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
