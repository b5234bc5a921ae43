//! The start of a connection: who it is, and whether there is a place for it.

use std::collections::HashMap;
use std::fmt::Debug;

use async_trait::async_trait;
use futures::sink::{Sink, SinkExt as _};
use pgwire::api::auth::{
    ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, METADATA_DATABASE, METADATA_USER, PgWireConnectionState,
    PidSecretKeyGenerator as _, RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::{Authentication, PasswordMessageFamily};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::connection::{Connection, Way};
use super::driver;
use super::error::Error;
use super::scram;
use crate::config::Console;
use crate::observe::metrics::ConsoleLogin;

#[async_trait]
impl StartupHandler for Connection {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let settings = self.office.world.shared.settings.load_full();
        let console = &settings.console;
        let user = |client: &C| {
            client
                .metadata()
                .get(METADATA_USER)
                .cloned()
                .unwrap_or_default()
        };
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                let user = user(client);
                let database = client.metadata().get(METADATA_DATABASE).unwrap_or(&user);
                let begun = self.begin(&user, database, console);
                begun.map_err(|refusal| self.refused(&refusal))?;
                if matches!(self.way, Way::Password) {
                    client.set_state(PgWireConnectionState::AuthenticationInProgress);
                    let ask = Authentication::SASL(vec![scram::MECHANISM.to_owned()]);
                    client
                        .send(PgWireBackendMessage::Authentication(ask))
                        .await?;
                    return Ok(());
                }
            }
            PgWireFrontendMessage::PasswordMessageFamily(answer) => {
                let user = user(client);
                let answered = self.check(answer, &user, console);
                let (next, done) = answered.map_err(|refusal| self.refused(&refusal))?;
                client
                    .send(PgWireBackendMessage::Authentication(next))
                    .await?;
                if !done {
                    return Ok(());
                }
            }
            _ => return Err(self.refused(&Refusal::Message)),
        }
        let entered = self.enter(&user(client), console);
        entered.map_err(|refusal| self.refused(&refusal))?;
        let (pid, secret) = RandomPidSecretKeyGenerator::default().generate(client);
        client.set_pid_and_secret_key(pid, secret);
        finish_authentication(client, self).await
    }
}

/// Why nobody is let in.
enum Refusal {
    /// It is no user of the console's, or has not the password.
    Wrong(Error),
    /// There are too many.
    Limited(Error),
    /// It is no message of a login's.
    Message,
}

impl Connection {
    /// Whether somebody may try.
    fn begin(&self, user: &str, database: &str, console: &Console) -> Result<(), Refusal> {
        self.office
            .gate
            .try_login(self.from)
            .map_err(Refusal::Limited)?;
        if database != driver::DATABASE {
            let message = format!("database \"{database}\" does not exist");
            let error = Error::new("3D000", message);
            let hint = format!("The console is the database \"{}\".", driver::DATABASE);
            return Err(Refusal::Wrong(error.hint(hint)));
        }
        match self.way {
            Way::Password => Ok(()),
            Way::Peer { uid } if may_enter(uid, console) => {
                self.login().who = format!("uid {uid} as {user}");
                Ok(())
            }
            Way::Peer { uid } => {
                let message = format!("the user with the number {uid} may not use the console");
                let hint = "Root and the user that Osprey runs as may, and those in console.uids.";
                Err(Refusal::Wrong(Error::new("28000", message).hint(hint)))
            }
        }
    }

    /// Takes the next step of the exchange; true: it was the last.
    fn check(
        &self,
        answer: PasswordMessageFamily,
        user: &str,
        console: &Console,
    ) -> Result<(Authentication, bool), Refusal> {
        let wrong = || {
            let message = format!("password authentication failed for user \"{user}\"");
            Refusal::Wrong(Error::new("28P01", message))
        };
        let mut login = self.login();
        match login.exchange.take() {
            None => {
                let first = answer
                    .into_sasl_initial_response()
                    .map_err(|_| Refusal::Message)?;
                if first.auth_method != scram::MECHANISM {
                    return Err(Refusal::Message);
                }
                let known = console.users.iter().find(|known| known.name == user);
                let verifier = known.map(|known| &known.verifier);
                let data = first.data.unwrap_or_default();
                let begun = scram::begin(&data, user, verifier);
                let (exchange, next) = begun.ok_or(Refusal::Message)?;
                login.exchange = Some(exchange);
                Ok((Authentication::SASLContinue(next.into()), false))
            }
            Some(exchange) => {
                let last = answer.into_sasl_response().map_err(|_| Refusal::Message)?;
                let end = exchange.end(&last.data).ok_or_else(wrong)?;
                let from = self.from.map(|from| format!(" from {from}"));
                login.who = format!("{user}{}", from.unwrap_or_default());
                Ok((Authentication::SASLFinal(end.into()), true))
            }
        }
    }

    /// Gives a client that may come in its place.
    fn enter(&self, user: &str, console: &Console) -> Result<(), Refusal> {
        let place = self.office.gate.enter(self.from, console.max_connections);
        let place = place.map_err(Refusal::Limited)?;
        let mut login = self.login();
        login.place = Some(place);
        login.greeting = None;
        let logins = &self.office.world.shared.metrics.console().logins;
        logins.of(ConsoleLogin::Accepted).inc();
        tracing::debug!(who = login.who, user, "a console connection");
        Ok(())
    }

    fn refused(&self, refusal: &Refusal) -> PgWireError {
        let (error, outcome) = match refusal {
            Refusal::Wrong(error) => (error.clone(), ConsoleLogin::Refused),
            Refusal::Limited(error) => (error.clone(), ConsoleLogin::Limited),
            Refusal::Message => {
                let message = "what came is no message of a login by SCRAM-SHA-256";
                (Error::new("08P01", message), ConsoleLogin::Refused)
            }
        };
        let logins = &self.office.world.shared.metrics.console().logins;
        logins.of(outcome).inc();
        if let Some(left_out) = self.office.refusals.now() {
            let from = self
                .from
                .map_or_else(|| "the socket".to_owned(), |from| from.to_string());
            tracing::warn!(
                from,
                refusal = error.message,
                left_out,
                "no console connection"
            );
        }
        error.fatal()
    }
}

/// Root, the user that Osprey runs as, and those who are listed.
fn may_enter(uid: u32, console: &Console) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw() || console.uids.contains(&uid)
}

impl ServerParameterProvider for Connection {
    fn server_parameters<C>(&self, client: &C) -> Option<HashMap<String, String>>
    where
        C: ClientInfo,
    {
        let user = client.metadata().get(METADATA_USER).map(String::as_str);
        Some(driver::reported(user.unwrap_or_default()).collect())
    }
}
