//! Phase *Login*: from a startup packet to the first ReadyForQuery.
//!
//! | reads | the server's answers; authentication messages of the client |
//! |---|---|
//! | writes | the startup packet, authentication messages, what the server answers |
//! | waits for | the upstream connection; then whoever speaks next |
//! | until | `limits.login_timeout` after the startup packet; each connect, `upstream.connect_timeout` |
//!
//! Authentication is relayed, not terminated; `scram.rs` has the one exception. A login
//! holds one of `limits.max_logins` places; the session's own place is taken when it has succeeded.

use std::sync::Arc;

use tokio::time::Instant;

use crate::net::endpoint::{Connected, Purpose};
use crate::net::{Network, Stream, Transport, Unreachable};
use crate::observe::metrics::Limit;
use crate::protection::Lexing;
use crate::upstream::Upstream;
use crate::wire::backend::{ErrorFields, early_error, parameter_status, tag};
use crate::wire::startup::{MAX_AUTHENTICATION, Startup};
use crate::wire::{HEADER, Header, compose, frontend};

use super::context::Context;
use super::greeting::StartupPacket;
use super::refusal::Refusal;
use super::registry::{Entered, Origin};
use super::scram;

/// Shorter values of options are words such as `off`, which may stand in any message.
const SHORTEST_TOKEN: usize = 8;

/// A client whose upstream is known, on its way in.
pub(super) struct Login<T> {
    pub(super) client: Stream<T>,
    pub(super) startup: StartupPacket,
    pub(super) upstream: Arc<Upstream>,
    /// The authentication message that was passed on last: what the server says of it may not be
    /// logged.
    pub(super) passed_on: Vec<u8>,
    /// A message to the client has begun, and perhaps not all of it was sent.
    pub(super) in_message: bool,
}

impl<T> Login<T> {
    /// What a server may quote that its client meant for it alone: values in `options`, among which
    /// tokens are, and the password.
    pub(super) fn secrets(&self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let options = self.startup.view().map(Startup::options);
        let values = options.into_iter().flatten().filter_map(|word| {
            let value = text(&word).split_once('=')?.1.to_owned();
            (value.len() >= SHORTEST_TOKEN).then_some(value)
        });
        let password = self.passed_on.strip_suffix(&[0]).unwrap_or_default();
        values.chain([text(password)]).collect()
    }
}

/// Both connections after a login, and what was read ahead.
pub(super) struct LoggedIn<T> {
    pub(super) server: Stream<T>,
    pub(super) origin: Origin,
    /// What came from the client and was not looked at yet.
    pub(super) from_client: Vec<u8>,
    /// What the client is still to be told, up to the first ReadyForQuery, which is the last of it.
    pub(super) answers: Vec<u8>,
    /// What came from the server behind it.
    pub(super) from_server: Vec<u8>,
    /// How the server reads the session's texts, as it has reported.
    pub(super) lexing: Lexing,
}

/// Who speaks next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Server,
    /// The client has been asked; the server may speak all the same: it gives up waiting, or has
    /// asked nothing with the last token of GSSAPI, which need not be answered.
    Either,
}

impl<T: Transport> Login<T> {
    /// Sends the client whole messages.
    async fn tell(&mut self, messages: &[u8]) -> Result<(), Refusal> {
        self.in_message = !messages.is_empty();
        self.client.send(messages).await?;
        self.in_message = false;
        Ok(())
    }

    /// Connects to Hologres and relays authentication up to the first ReadyForQuery. What came together
    /// with it is left for the client to be told at once. The cancel key that the server gives is known
    /// to work from the moment at which the client has it.
    pub(super) async fn run<N: Network<Transport = T>>(
        &mut self,
        context: &Context<N>,
        entered: &mut Entered,
    ) -> Result<LoggedIn<T>, Refusal> {
        let (server, origin) = self.connect(context, Purpose::Session).await?;
        let mut relay = Relay {
            login: self,
            context,
            entered,
            server,
            origin,
            from_client: Vec::new(),
            from_server: Vec::with_capacity(1024),
            answers: Vec::new(),
            offered_less: false,
            lexing: Lexing::default(),
        };
        let outcome = match relay.run().await {
            // The client left after it was offered no channel binding. It may not have told its own
            // user why, so the log does.
            Err(Refusal::Gone | Refusal::Io(_)) if relay.offered_less => Err(Refusal::NoBinding),
            outcome => outcome,
        };
        let Relay {
            mut server,
            origin,
            from_client,
            from_server,
            answers,
            lexing,
            ..
        } = relay;
        if let Err(refusal) = outcome {
            let _ = server.shut_down().await;
            return Err(refusal);
        }
        Ok(LoggedIn {
            server,
            origin,
            from_client,
            answers,
            from_server,
            lexing,
        })
    }

    /// Connects and sends the startup packet.
    async fn connect<N: Network<Transport = T>>(
        &self,
        context: &Context<N>,
        purpose: Purpose,
    ) -> Result<(Stream<T>, Origin), Refusal> {
        let begun = Instant::now();
        let endpoint = self.upstream.endpoint();
        let connected = endpoint.connect(&context.shared.network, purpose).await;
        let elsewhere = connected.and_then(|connected| {
            let address = connected.destination.address;
            if context.shared.is_itself(address) {
                return Err(Unreachable::Itself { address });
            }
            Ok(connected)
        });
        let Connected {
            mut stream,
            destination,
        } = elsewhere.inspect_err(|error| {
            if error.is_for_want_of_files() {
                // The upstream has no part in that.
                context
                    .shard()
                    .sessions_refused
                    .inc(Limit::OpenFiles.name());
            } else {
                context.shard().upstream_connect_failures.inc();
            }
        })?;
        let took = begun.elapsed();
        context.shard().upstream_connect_time.observe(took);
        stream
            .send(self.startup.bytes())
            .await
            .map_err(Refusal::lost)?;
        let origin = Origin {
            upstream: Arc::clone(&self.upstream),
            destination,
        };
        Ok((stream, origin))
    }
}

/// What came: bytes from the server, or a message of so many bytes from the client.
enum Heard {
    Server(usize),
    Client(usize),
}

struct Relay<'a, T, N> {
    login: &'a mut Login<T>,
    context: &'a Context<N>,
    entered: &'a mut Entered,
    server: Stream<T>,
    origin: Origin,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    /// See [`LoggedIn::answers`].
    answers: Vec<u8>,
    /// The client was offered SCRAM without the channel binding that the server offers, and has not
    /// chosen yet.
    offered_less: bool,
    lexing: Lexing,
}

impl<T: Transport, N: Network<Transport = T>> Relay<'_, T, N> {
    async fn run(&mut self) -> Result<(), Refusal> {
        let mut next = Speaker::Server;
        loop {
            let mut at = 0;
            loop {
                let rest = &self.from_server[at..];
                let header = Header::read(rest);
                let is_long = |header: &Option<Header>| {
                    header.is_some_and(|header| header.frame > MAX_AUTHENTICATION)
                };
                if rest.first() == Some(&tag::ERROR) && header.as_ref().map_or(true, is_long) {
                    match early_error(rest) {
                        Some(error) => return Err(Refusal::lost(error)),
                        None if rest.len() <= MAX_AUTHENTICATION => break,
                        None => {}
                    }
                }
                let header = match header {
                    Ok(Some(header)) if header.frame <= rest.len() => header,
                    Ok(header) => {
                        if is_long(&header) {
                            return Err(Refusal::Protocol(
                                "the server sent an oversized message during login".into(),
                            ));
                        }
                        break;
                    }
                    Err(error) => {
                        return Err(Refusal::Protocol(format!(
                            "invalid frame from the server during login: {error}"
                        )));
                    }
                };
                let body = &rest[HEADER..header.frame];
                match header.tag {
                    tag::READY_FOR_QUERY => {
                        let behind = self.from_server.split_off(at + header.frame);
                        self.answers = std::mem::replace(&mut self.from_server, behind);
                        return Ok(());
                    }
                    tag::ERROR => {
                        let fields = ErrorFields::new(body);
                        let refused = String::from_utf8_lossy(fields.message()).into_owned();
                        self.pass(at + header.frame).await?;
                        return Err(Refusal::Refused(refused));
                    }
                    tag::BACKEND_KEY_DATA => self.entered.set_key(body, self.origin.clone()),
                    tag::PARAMETER_STATUS => {
                        if let Some((parameter, value)) = parameter_status(body) {
                            self.lexing.report(parameter, value);
                        }
                    }
                    tag::AUTHENTICATION => match scram::plan(body, self.server.is_tls()) {
                        scram::Plan::Relay(true) => next = Speaker::Either,
                        scram::Plan::Relay(false) => next = Speaker::Server,
                        scram::Plan::Offer(offer) => {
                            self.pass(at).await?;
                            self.from_server.drain(..header.frame);
                            self.login.tell(offer.message()).await?;
                            self.offered_less = true;
                            at = 0;
                            next = Speaker::Either;
                            continue;
                        }
                    },
                    _ => {}
                }
                at += header.frame;
            }
            self.pass(at).await?;
            let server_speaks = self.server.receive(&mut self.from_server);
            let heard = match next {
                Speaker::Server => Heard::Server(server_speaks.await.map_err(Refusal::lost)?),
                // Either future may be given up: what it has read so far stays in its buffer.
                Speaker::Either => tokio::select! {
                    biased;
                    read = server_speaks => Heard::Server(read.map_err(Refusal::lost)?),
                    frame = client_frame(&mut self.login.client, &mut self.from_client) => {
                        Heard::Client(frame?)
                    }
                },
            };
            match heard {
                Heard::Client(frame) => {
                    next = Speaker::Server;
                    self.client_said(frame).await?;
                }
                Heard::Server(0) => return Err(Refusal::lost("it closed the connection")),
                Heard::Server(_) => {}
            }
        }
    }

    /// Sends the client the first bytes of what the server sent.
    async fn pass(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.login.tell(&self.from_server[..bytes]).await?;
        self.from_server.drain(..bytes);
        Ok(())
    }

    /// Passes an authentication message of the client's on, unless it chose what cannot hold.
    async fn client_said(&mut self, frame: usize) -> Result<(), Refusal> {
        if std::mem::take(&mut self.offered_less) {
            match scram::Binding::of(&self.from_client[HEADER..frame]) {
                scram::Binding::None => {}
                scram::Binding::Missed if self.login.client.is_tls() => {
                    self.from_client.drain(..frame);
                    let password = self.ask_password().await?;
                    let from_server = &mut self.from_server;
                    return scram::authenticate(&mut self.server, from_server, &password).await;
                }
                scram::Binding::Missed if self.origin.upstream.endpoint().may_be_plaintext() => {
                    if !self.begin_again_in_plaintext().await? {
                        self.from_client.drain(..frame);
                        return Ok(());
                    }
                }
                scram::Binding::Missed => return Err(scram::missed()),
                scram::Binding::Demanded => return Err(scram::demanded()),
            }
        }
        let message = &self.from_client[..frame];
        self.server.send(message).await.map_err(Refusal::lost)?;
        self.login.passed_on = message[HEADER..].to_vec();
        self.from_client.drain(..frame);
        Ok(())
    }

    /// Takes another upstream connection, without TLS: there the server offers what the client was
    /// offered, and believes the client that says so. False: it sent an error instead, which is left
    /// for the relay.
    async fn begin_again_in_plaintext(&mut self) -> Result<bool, Refusal> {
        let (server, origin) = self
            .login
            .connect(self.context, Purpose::PlaintextSession)
            .await?;
        let mut before = std::mem::replace(&mut self.server, server);
        let _ = before.shut_down().await;
        self.origin = origin;
        self.from_server.clear();
        // The server's first AuthenticationSASL is not passed on: the client has one already.
        scram::expect_offer(&mut self.server, &mut self.from_server).await
    }

    /// Asks the client for its password, over the client's TLS.
    async fn ask_password(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut request = Vec::new();
        compose::frame(&mut request, tag::AUTHENTICATION, |out| {
            out.extend_from_slice(&3_u32.to_be_bytes());
        });
        self.login.tell(&request).await?;
        let frame = match client_frame(&mut self.login.client, &mut self.from_client).await {
            Err(Refusal::Gone | Refusal::Io(_)) => return Err(Refusal::NoBinding),
            frame => frame?,
        };
        let body = &self.from_client[HEADER..frame];
        let password = body.strip_suffix(&[0]).unwrap_or(body).to_vec();
        self.from_client.drain(..frame);
        Ok(password)
    }
}

/// Waits for one whole authentication message of the client's; returns its length.
async fn client_frame<T: Transport>(
    client: &mut Stream<T>,
    read: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    loop {
        match Header::read(read) {
            Ok(Some(header)) if header.tag != frontend::tag::PASSWORD => {
                return Err(Refusal::Protocol(format!(
                    "expected an authentication message, got message type 0x{:02X}",
                    header.tag
                )));
            }
            Ok(Some(header)) if header.frame > MAX_AUTHENTICATION => {
                return Err(Refusal::Protocol("authentication message too long".into()));
            }
            Ok(Some(header)) if header.frame <= read.len() => {
                return Ok(header.frame);
            }
            Ok(_) => {}
            Err(error) => return Err(Refusal::Protocol(error.to_string())),
        }
        if client.receive(read).await? == 0 {
            return Err(Refusal::Gone);
        }
    }
}
