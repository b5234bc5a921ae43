//! Clients of the console on the listeners' ports: who asks for its database, where it has users.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::connection::{Connection, Login, Way};
use super::driver;
use super::office::Office;
use super::serve::serve;
use crate::config::Settings;
use crate::session::{Aside, Visitor};

/// Serves those clients.
pub(super) struct Tcp(pub(super) Arc<Office>);

impl Aside for Tcp {
    fn takes(&self, database: &[u8], settings: &Settings) -> bool {
        !settings.console.users.is_empty() && database == driver::DATABASE.as_bytes()
    }

    fn serve(&self, visitor: Visitor) -> BoxFuture<'static, ()> {
        let office = Arc::clone(&self.0);
        let limit = office.world.shared.settings.load().limits.login_timeout;
        let login = Login {
            greeting: Some(visitor.place),
            ..Login::default()
        };
        let connection = Connection {
            office,
            from: Some(visitor.peer.ip()),
            way: Way::Password,
            login: Mutex::new(login),
        };
        let deadline = Instant::now() + limit;
        serve(
            visitor.client,
            visitor.is_tls,
            Arc::new(connection),
            deadline,
        )
        .boxed()
    }
}
