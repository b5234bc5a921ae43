//! The start of a connection: the startup packet, a password if one is asked for, and what the
//! client is told of the server.

use std::collections::HashMap;
use std::fmt::Debug;

use async_trait::async_trait;
use futures::sink::{Sink, SinkExt};
use pgwire::api::auth::{
    ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, PgWireConnectionState, PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::{Authentication, Startup};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::connection::Connection;
use super::session::Session;
use super::value::SqlError;

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
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                self.start(client, &startup).await?;
                if self.world.password.is_some() {
                    client.set_state(PgWireConnectionState::AuthenticationInProgress);
                    let ask = Authentication::CleartextPassword;
                    client
                        .send(PgWireBackendMessage::Authentication(ask))
                        .await?;
                    return Ok(());
                }
            }
            PgWireFrontendMessage::PasswordMessageFamily(answer) => {
                let password = answer.into_password()?.password;
                if self.world.password.as_ref() != Some(&password) {
                    let user = client.metadata().get("user").cloned().unwrap_or_default();
                    return Err(PgWireError::InvalidPassword(user));
                }
            }
            _ => return Ok(()),
        }
        finish_authentication(client, self).await
    }
}

impl Connection {
    fn begin_session(&self, startup: &HashMap<String, String>) -> PgWireResult<i32> {
        let user = startup
            .get("user")
            .cloned()
            .ok_or(PgWireError::UserNameRequired)?;
        let database = startup
            .get("database")
            .cloned()
            .unwrap_or_else(|| user.clone());
        let connection = self.world.next_connection();
        let settings = startup_settings(startup);
        let session = Session::new(&self.world, connection, user, database, settings)
            .map_err(SqlError::fatal)?;
        *self.locked() = Some(session);
        Ok(connection)
    }

    async fn start<C>(&self, client: &mut C, startup: &Startup) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<C::Error>,
    {
        protocol_negotiation(client, startup).await?;
        save_startup_parameters_to_metadata(client, startup);
        let connection = self.begin_session(client.metadata())?;
        let (_, secret) = RandomPidSecretKeyGenerator::default().generate(client);
        client.set_pid_and_secret_key(connection, secret);
        Ok(())
    }
}

impl ServerParameterProvider for Connection {
    fn server_parameters<C>(&self, _client: &C) -> Option<HashMap<String, String>>
    where
        C: ClientInfo,
    {
        const ALSO: [&str; 5] = [
            "server_version",
            "server_encoding",
            "integer_datetimes",
            "is_superuser",
            "session_authorization",
        ];
        let session = self.locked();
        let settings = &session.as_ref()?.settings;
        let also = ALSO
            .iter()
            .filter_map(|name| Some((*name, settings.get(name)?.to_owned())));
        let all = settings.reports().iter().cloned().chain(also);
        Some(all.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// The settings in a startup packet: its own parameters, and those in `options`.
fn startup_settings(startup: &HashMap<String, String>) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for (name, value) in startup {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => settings.extend(options(value)),
            _ => settings.push((name.clone(), value.clone())),
        }
    }
    settings
}

/// `-c name=value`, `-cname=value` and `--name=value`; others, such as Hologres' `type=fixed`, have
/// no meaning here.
fn options(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next(),
            other => other,
        };
        if let Some((name, value)) = assignment.and_then(|text| text.split_once('=')) {
            settings.push((name.to_owned(), value.to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_each_spelling() {
        let found = options("-c a=b-c --d.e=1 type=fixed -cf=on -x");
        let expected = [("a", "b-c"), ("d.e", "1"), ("f", "on")];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
