//! Without the cargo feature: there are no traces.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{Ended, Sent, SessionStart};
use crate::config::Observe;

/// Where spans are sent: nowhere.
#[derive(Debug, Default)]
pub struct Traces(());

impl Traces {
    /// Sends none.
    ///
    /// # Errors
    ///
    /// None.
    pub fn start(_: &Observe, _: &Handle) -> Result<Self, String> {
        Ok(Self(()))
    }

    /// There is none.
    pub fn session(&self, _: &SessionStart<'_>) -> Option<Box<SessionTrace>> {
        None
    }

    /// Nothing is left to send.
    pub fn end(&self, _: Duration) {}
}

/// There is none of these.
#[derive(Debug)]
pub enum SessionTrace {}

impl SessionTrace {
    /// A statement was sent.
    pub fn sent(&mut self, _: Sent) {
        match *self {}
    }

    /// An error was rewritten that has this code, or made Osprey run the statement again.
    pub fn met(&mut self, _: &'static str) {
        match *self {}
    }

    /// A cycle has ended.
    pub fn ended(&mut self, _: &Ended) {
        match *self {}
    }

    /// The session has ended, for this reason.
    pub fn close(&mut self, _: &'static str) {
        match *self {}
    }
}
