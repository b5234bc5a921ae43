//! Phase *Borrowed*: a session that reads the catalogs in its own name. It is logged in, and its client,
//! who waits for the first ReadyForQuery, sees nothing of it.
//!
//! | reads | the server's answers to our queries |
//! |---|---|
//! | writes | our queries |
//! | waits for | the server alone |
//! | until | `catalog.borrow_timeout`, and then for what a cancelled query takes to end, up to `limits.login_timeout` |
//!
//! Our queries come before the client's first one, so their answers are all ours. The session is left
//! as it was: what the reading sets for itself is reset to what the login has brought, and a query that
//! fails outside a transaction leaves no trace.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::ask::{Ask, Row, Unanswered};
use crate::catalog::{Contents, Failure, ReadError, read};
use crate::config::Settings;
use crate::net::time::{timeout, timeout_at};
use crate::net::{Network, Stream};
use crate::observe::secrets;
use crate::protection::Encoding;
use crate::protection::knowledge::BorrowedReading;
use crate::wire::backend::{ErrorFields, Status, parameter_status, tag};
use crate::wire::{HEADER, Header, compose};

use super::cancel;
use super::context::Context;
use super::login::LoggedIn;
use super::refusal::Refusal;
use super::registry::Entered;

/// Bytes of all answers together: some hundred thousand relations. Beyond, the reading is given up.
const MAX_ANSWERS: usize = 32 << 20;

/// Bytes of a ReadyForQuery.
const READY_FOR_QUERY: usize = HEADER + 1;

/// What the reading needs whatever the client has asked for at its login: time, for which
/// `catalog.borrow_timeout` is the limit, and every character.
const SET: &str = "SET statement_timeout = 0; SET client_encoding = 'UTF8'";

/// A session that has just logged in has nothing but what RESET gives it back.
const RESET: &str = "RESET statement_timeout; RESET client_encoding";

/// Reads the catalogs and hands over what came of it. Afterwards the session stands where it stood; what the
/// client is to hear of meanwhile is among its answers. It takes at most `catalog.borrow_timeout`, and what a
/// query that is then cancelled takes to end, up to `limits.login_timeout`.
///
/// # Errors
///
/// If the server has ended the session.
pub(super) async fn read<N: Network>(
    reading: BorrowedReading,
    client: &mut Stream<N::Transport>,
    session: &mut LoggedIn<N::Transport>,
    entered: &Entered,
    context: &Context<N>,
    settings: &Settings,
) -> Result<(), Refusal> {
    let borrow_timeout = session.origin.upstream.settings().catalog.borrow_timeout;
    let ready = session.answers.last_chunk::<READY_FOR_QUERY>();
    if ready.map(|ready| Status::read(&ready[HEADER..])) != Some(Status::Idle) {
        return Ok(());
    }
    let mut borrowed = Borrowed {
        session,
        entered,
        context,
        limit: borrow_timeout,
        deadline: Instant::now() + borrow_timeout,
        patience: settings.limits.login_timeout,
        skip: 0,
        spent: 0,
        for_client: Vec::new(),
        encoding: Vec::new(),
        ended: None,
    };
    let outcome = tokio::select! {
        biased;
        contents = borrowed.contents(reading.servers()) => Ok(contents),
        // Another process will read them, or another session.
        () = context.shared.sessions.drain_begins() => Err(Refusal::ShuttingDown),
        () = entered.live().is_killed() => Err(Refusal::Killed),
    };
    let Borrowed {
        for_client,
        mut ended,
        ..
    } = borrowed;
    match outcome {
        Ok(contents) => reading.finish(contents),
        Err(refusal) => ended = Some(refusal),
    }
    let mut ready = session
        .answers
        .split_off(session.answers.len() - READY_FOR_QUERY);
    session.answers.extend_from_slice(&for_client);
    if let Some(refusal) = ended {
        let telling = timeout(settings.limits.login_timeout, client.send(&session.answers));
        telling.await.map_err(|_| Refusal::Gone)??;
        return Err(refusal);
    }
    session.answers.append(&mut ready);
    Ok(())
}

struct Borrowed<'a, N: Network> {
    session: &'a mut LoggedIn<N::Transport>,
    entered: &'a Entered,
    context: &'a Context<N>,
    limit: Duration,
    deadline: Instant,
    patience: Duration,
    /// Bytes of a message too large to be looked at that are still to come.
    skip: usize,
    /// Bytes of all answers so far.
    spent: usize,
    for_client: Vec<u8>,
    /// The last ParameterStatus that told of `client_encoding`: what the reading changes is not the
    /// client's to hear of.
    encoding: Vec<u8>,
    /// The session cannot go on: the server has ended it, or it is not as it was.
    ended: Option<Refusal>,
}

/// What has come in answer to one query.
#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    error: Option<Unanswered>,
    /// An ErrorResponse after which the server closes.
    fatal: Option<String>,
    complete: bool,
}

impl<N: Network> Ask for Borrowed<'_, N> {
    async fn ask(&mut self, statement: &str) -> Result<Vec<Row>, Unanswered> {
        let mut query = Vec::new();
        compose::query(&mut query, statement.as_bytes());
        let mut answer = Answer::default();
        let deadline = self.deadline;
        let asked = async {
            self.session.server.send(&query).await?;
            self.receive(&mut answer).await
        };
        let outcome = timeout_at(deadline, asked).await;
        let given_up = match outcome {
            Ok(Ok(())) if answer.complete => None,
            Ok(Ok(())) => Some(ReadError {
                failure: Failure::TooLarge,
                reason: format!("the catalogs are larger than {MAX_ANSWERS} bytes"),
            }),
            Ok(Err(error)) => return Err(self.lost(answer, &error)),
            Err(_) => Some(ReadError::timeout("reading the catalogs", self.limit)),
        };
        if let Some(error) = given_up {
            return Err(match self.give_up().await {
                Ok(()) => Unanswered::Broken(error),
                Err((answer, error)) => self.lost(answer, &error),
            });
        }
        match answer.error {
            Some(error) => Err(error),
            None => Ok(answer.rows),
        }
    }
}

impl<N: Network> Borrowed<'_, N> {
    /// Reads the catalogs, with settings of its own, which are put back.
    async fn contents(&mut self, servers: &[String]) -> Result<Contents, ReadError> {
        let before = self.session.lexing.encoding;
        let set = self.ask(SET).await;
        let may_be_set = !matches!(set, Err(Unanswered::None(_) | Unanswered::Refused(_)));
        let contents = match set {
            Err(Unanswered::Broken(error)) => Err(error),
            // Where it may not be set, what the session has may do.
            _ => read::contents(self, servers).await,
        };
        if may_be_set && self.ended.is_none() {
            self.deadline = Instant::now() + self.patience;
            let reset = self.ask(RESET).await;
            if let (Err(_), None) = (reset, &self.ended) {
                self.ended = Some(Refusal::Own {
                    sqlstate: "08006",
                    message: "Osprey could not give back the session in which it read the catalogs"
                        .into(),
                    hint: None,
                });
            }
        }
        if self.session.lexing.encoding != before {
            // Something else has changed it meanwhile.
            self.for_client.append(&mut self.encoding);
        }
        contents
    }

    /// Reads up to the ReadyForQuery, or until it is too much: then the answer is not complete.
    async fn receive(&mut self, answer: &mut Answer) -> io::Result<()> {
        loop {
            self.look(answer)?;
            if answer.complete || self.spent > MAX_ANSWERS {
                return Ok(());
            }
            if answer.fatal.is_some() {
                // Nothing follows it, even if the server stays open.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self
                .session
                .server
                .receive(&mut self.session.from_server)
                .await?
                == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Cancels the query that is being answered, and reads its answer away.
    async fn give_up(&mut self) -> Result<(), (Answer, io::Error)> {
        let mut answer = Answer::default();
        let key = self.entered.key();
        let shared = &self.context.shared;
        let cancel = cancel::send(key, &self.session.origin, self.entered.id(), shared);
        // The cancel request must have ended before the session goes on, lest it hit the client's
        // first statement.
        let patience = self.patience;
        let _ = timeout(patience, cancel).await;
        let rest = async {
            while !answer.complete {
                self.spent = 0;
                self.receive(&mut answer).await?;
                answer.rows.clear();
                if self.for_client.len() > MAX_ANSWERS {
                    return Err(io::Error::other("it sends notices without end"));
                }
            }
            Ok(())
        };
        match timeout(patience, rest).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err((answer, error)),
            Err(_) => Err((answer, io::ErrorKind::TimedOut.into())),
        }
    }

    /// The session is over: says why.
    fn lost(&mut self, answer: Answer, error: &io::Error) -> Unanswered {
        let reason = answer.fatal.clone().unwrap_or_else(|| error.to_string());
        let reason = secrets::hide(&reason, &[]).into_owned();
        self.ended = Some(match answer.fatal {
            // The FATAL itself is among what the client is sent.
            Some(message) => Refusal::Refused(message),
            None => Refusal::Own {
                sqlstate: "08006",
                message: format!("Hologres ended the session during login: {error}"),
                hint: None,
            },
        });
        Unanswered::Broken(ReadError {
            failure: Failure::Unreachable,
            reason,
        })
    }

    /// Takes what is whole in the buffer, up to the ReadyForQuery.
    fn look(&mut self, answer: &mut Answer) -> io::Result<()> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let buffer = std::mem::take(&mut self.session.from_server);
        let mut at = self.skip.min(buffer.len());
        self.skip -= at;
        while !answer.complete {
            let rest = &buffer[at..];
            let Some(header) = Header::read(rest).map_err(invalid)? else {
                break;
            };
            if header.frame > rest.len() {
                if header.frame > MAX_ANSWERS {
                    self.spent = header.frame;
                    self.skip = header.frame - rest.len();
                    at = buffer.len();
                }
                break;
            }
            self.spent += header.frame;
            self.take(header.tag, &rest[..header.frame], answer);
            at += header.frame;
        }
        self.session.from_server = buffer;
        self.session.from_server.drain(..at);
        Ok(())
    }

    fn take(&mut self, tag: u8, frame: &[u8], answer: &mut Answer) {
        let body = &frame[HEADER..];
        match tag {
            tag::READY_FOR_QUERY => answer.complete = true,
            tag::DATA_ROW => match row(body, self.session.lexing.encoding) {
                Some(row) => answer.rows.push(row),
                None => {
                    answer.error = Some(Unanswered::Refused(ReadError {
                        failure: Failure::Server,
                        reason: "there are names in characters that are not known in the \
                                 client_encoding of the session that read the catalogs"
                            .into(),
                    }));
                }
            },
            tag::ERROR => {
                let fields = ErrorFields::new(body);
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let message = text(fields.message());
                if fields.is_fatal() {
                    answer.fatal = Some(message);
                    self.for_client.extend_from_slice(frame);
                } else {
                    answer.error = Some(Unanswered::said(&text(fields.sqlstate()), &message));
                }
            }
            // It is about a question of ours.
            tag::NOTICE if ErrorFields::new(body).is_mere_notice() => {}
            tag::NOTICE | tag::NOTIFICATION | tag::PARAMETER_STATUS => {
                if tag == tag::PARAMETER_STATUS
                    && let Some((parameter, value)) = parameter_status(body)
                {
                    self.session.lexing.report(parameter, value);
                    if parameter == b"client_encoding" {
                        self.encoding = frame.to_vec();
                        return;
                    }
                }
                self.for_client.extend_from_slice(frame);
            }
            _ => {}
        }
    }
}

/// A DataRow's columns as texts, which are in `encoding`; `None` if they are not, or a character is
/// not known.
fn row(body: &[u8], encoding: Encoding) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::with_capacity(usize::from(u16::from_be_bytes(*count)));
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            rest = behind;
            continue;
        };
        let (text, behind) = behind.split_at_checked(length)?;
        let text = encoding.to_server(text).into_owned();
        row.push(Some(String::from_utf8(text).ok()?));
        rest = behind;
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::{Encoding, row};

    #[test]
    fn rows_are_read_if_their_encoding_is_known() {
        let body = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        let utf8 = Encoding::default();
        let ab = vec![Some("ab".to_owned()), None, Some(String::new())];
        assert_eq!(row(body, utf8), Some(ab));
        let name = b"\0\x01\0\0\0\x02\xc3\xa4";
        let named = |name| Encoding::named(name).expect("an encoding");
        assert_eq!(row(name, utf8), Some(vec![Some("ä".to_owned())]));
        assert_eq!(row(name, named("GBK")), Some(vec![Some("盲".to_owned())]));
        assert_eq!(row(name, named("EUC_TW")), None, "it is not known");
        assert_eq!(row(b"\0\x01\0\0\0\x02\xc3", utf8), None);
        assert_eq!(row(b"", utf8), None);
    }
}
