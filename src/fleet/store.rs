//! What is asked of the Redis, command by command.
//!
//! All keys of one prefix are in one part of a cluster, by the braces in their names:
//!
//! | key | is |
//! |---|---|
//! | `{PREFIX}:UPSTREAM:facts` | the facts, a stream |
//! | `{PREFIX}:UPSTREAM:key:PROJECT` | the last word of a provider on a project, for whoever has it not in mind |
//! | `{PREFIX}:UPSTREAM:lease:PROJECT` | held by the replica that is looking a project up; then, for a while, that it failed |
//! | `{PREFIX}:replicas` | when each replica was last there, a sorted set |
//! | `{PREFIX}:marker` | set once: if it is another one than before, the data was lost |

use std::io::{self, ErrorKind};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};

use super::counts::{Counts, Operation};
use super::seal::MAX_RECORD;
use crate::facts::Stamp;

/// The most facts that the stream keeps.
const MAX_STREAM: usize = 100_000;
/// Facts that are read at a time.
pub(super) const PAGE: usize = 200;
/// How long a replica may hold a lease without a word: then another one takes it.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// Replicas that have not been there for so long are gone.
pub(super) const GONE: Duration = Duration::from_secs(15);

/// An entry of a stream: its id, and its fields and values in turn.
pub(super) type Entry = (String, Vec<Vec<u8>>);

/// The names of keys.
#[derive(Clone)]
pub(super) struct Names {
    common: String,
    own: String,
}

impl Names {
    pub(super) fn new(prefix: &str, upstream: &str) -> Self {
        let common = format!("{{{prefix}}}");
        Self {
            own: format!("{common}:{upstream}"),
            common,
        }
    }

    pub(super) fn marker(&self) -> String {
        format!("{}:marker", self.common)
    }

    pub(super) fn replicas(&self) -> String {
        format!("{}:replicas", self.common)
    }

    pub(super) fn facts(&self) -> String {
        format!("{}:facts", self.own)
    }

    fn key(&self, project: &str) -> String {
        format!("{}:key:{project}", self.own)
    }

    fn lease(&self, project: &str) -> String {
        format!("{}:lease:{project}", self.own)
    }
}

/// What the Redis says of a project that somebody is to look up.
pub(super) struct Asked {
    /// The last word of a provider, as it stands there.
    pub(super) record: Vec<u8>,
    /// This replica is to look it up.
    pub(super) is_leased: bool,
    /// What stands where the lease is.
    pub(super) lease: Vec<u8>,
}

/// What is to be written with a fact.
pub(super) enum Beside<'a> {
    Nothing,
    /// It is the last word on a project, for so long.
    Record {
        project: &'a str,
        time: Duration,
    },
    /// What was known of a project is to be looked up anew.
    Forget {
        project: &'a str,
    },
}

/// A connection by which all that is asked of one upstream's keys, within a deadline.
#[derive(Clone)]
pub(super) struct Store<'c> {
    pub(super) connection: MultiplexedConnection,
    pub(super) counts: &'c Counts,
    pub(super) deadline: Duration,
}

impl Store<'_> {
    /// Waits for an answer for as long as it may take, and counts what became of it.
    async fn counted<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let answer = match tokio::time::timeout(self.deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(RedisError::from(io::Error::new(
                ErrorKind::TimedOut,
                "no answer within the deadline",
            ))),
        };
        let became = match &answer {
            Ok(_) => Operation::Answered,
            Err(error) if is_refusal(error) => Operation::Refused,
            Err(error) if is_late(error) => Operation::TimedOut,
            Err(_) => Operation::Broken,
        };
        self.counts.operations.of(became).inc();
        answer
    }

    /// Asks for a project's record, and for the lease if there is none. The lease first: whoever gives
    /// it back has written the record before.
    pub(super) async fn ask(
        &self,
        names: &Names,
        project: &str,
        token: &str,
    ) -> RedisResult<Asked> {
        let (key, lease) = (names.key(project), names.lease(project));
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(&lease)
            .arg(token)
            .arg("NX")
            .arg("PX")
            .arg(LEASE.as_millis() as u64);
        // A record that is larger than any of ours is cut, and not believed.
        pipe.cmd("GETRANGE").arg(&key).arg(0).arg(MAX_RECORD);
        pipe.cmd("GETRANGE").arg(&lease).arg(0).arg(MAX_RECORD);
        let mut connection = self.connection.clone();
        let answer = pipe.query_async(&mut connection);
        let (leased, record, lease): (Option<String>, Vec<u8>, Vec<u8>) =
            self.counted(answer).await?;
        Ok(Asked {
            record,
            is_leased: leased.is_some(),
            lease,
        })
    }

    /// Keeps a lease for longer.
    pub(super) async fn keep(&self, names: &Names, project: &str, token: &str) -> RedisResult<()> {
        let mut cmd = redis::cmd("SET");
        cmd.arg(names.lease(project)).arg(token).arg("XX");
        cmd.arg("PX").arg(LEASE.as_millis() as u64);
        let mut connection = self.connection.clone();
        let kept: Option<String> = self.counted(cmd.query_async(&mut connection)).await?;
        drop(kept);
        Ok(())
    }

    /// Gives a lease back.
    pub(super) async fn give_back(&self, names: &Names, project: &str) -> RedisResult<()> {
        let mut cmd = redis::cmd("DEL");
        cmd.arg(names.lease(project));
        let mut connection = self.connection.clone();
        self.counted(cmd.exec_async(&mut connection)).await
    }

    /// Leaves where the lease was that the lookup failed.
    pub(super) async fn fail(
        &self,
        names: &Names,
        project: &str,
        record: &[u8],
        time: Duration,
    ) -> RedisResult<()> {
        let mut cmd = redis::cmd("SET");
        cmd.arg(names.lease(project)).arg(record);
        cmd.arg("PX").arg(milliseconds(time));
        let mut connection = self.connection.clone();
        self.counted(cmd.exec_async(&mut connection)).await
    }

    /// Writes facts down for all.
    pub(super) async fn write(
        &self,
        names: &Names,
        facts: &[(Vec<u8>, Beside<'_>)],
    ) -> RedisResult<()> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for (record, beside) in facts {
            match beside {
                Beside::Nothing => {}
                Beside::Record { project, time } => {
                    pipe.cmd("SET").arg(names.key(project)).arg(&record[..]);
                    pipe.arg("PX").arg(milliseconds(*time)).ignore();
                    pipe.cmd("DEL").arg(names.lease(project)).ignore();
                }
                // The record may be of a format that is not known here. That it is forgotten, the
                // stream says.
                Beside::Forget { project } => {
                    pipe.cmd("DEL").arg(names.lease(project)).ignore();
                }
            }
            pipe.cmd("XADD").arg(names.facts());
            pipe.arg("MAXLEN").arg("~").arg(MAX_STREAM);
            pipe.arg("*").arg("f").arg(&record[..]).ignore();
        }
        let mut connection = self.connection.clone();
        self.counted(pipe.exec_async(&mut connection)).await
    }

    /// A page of the facts behind an id.
    pub(super) async fn page(&self, names: &Names, behind: &str) -> RedisResult<Vec<Entry>> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(names.facts()).arg(format!("({behind}")).arg("+");
        cmd.arg("COUNT").arg(PAGE);
        let mut connection = self.connection.clone();
        self.counted(cmd.query_async(&mut connection)).await
    }

    /// Says that this replica is there. Returns the marker, and the replicas that are there with when
    /// each was last.
    pub(super) async fn beat(
        &self,
        names: &Names,
        by: &str,
        now: Stamp,
        marker: &str,
    ) -> RedisResult<(String, Vec<(String, f64)>)> {
        let replicas = names.replicas();
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(names.marker())
            .arg(marker)
            .arg("NX")
            .ignore();
        pipe.cmd("GETRANGE").arg(names.marker()).arg(0).arg(64);
        pipe.cmd("ZADD").arg(&replicas).arg(now.0).arg(by).ignore();
        pipe.cmd("ZREMRANGEBYSCORE").arg(&replicas).arg("-inf");
        pipe.arg(now.less(GONE).0).ignore();
        pipe.cmd("ZRANGE").arg(&replicas).arg(0).arg(199);
        pipe.arg("WITHSCORES");
        let mut connection = self.connection.clone();
        self.counted(pipe.query_async(&mut connection)).await
    }
}

/// Waits for facts behind those ids, for a second at most. It takes the connection for itself.
pub(super) async fn follow(
    connection: &mut MultiplexedConnection,
    behind: &[(String, String)],
) -> RedisResult<Vec<(String, Vec<Entry>)>> {
    let mut cmd = redis::cmd("XREAD");
    cmd.arg("COUNT").arg(PAGE).arg("BLOCK").arg(1_000);
    cmd.arg("STREAMS");
    for (stream, _) in behind {
        cmd.arg(stream);
    }
    for (_, id) in behind {
        cmd.arg(id);
    }
    let read: Option<Vec<(String, Vec<Entry>)>> = cmd.query_async(connection).await?;
    Ok(read.unwrap_or_default())
}

/// True if the Redis has answered that it will not, and may later.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    error.code().is_some()
}

/// True if there was no answer in time, on a connection that is there.
pub(super) fn is_late(error: &RedisError) -> bool {
    !is_refusal(error) && (error.is_timeout() || !error.is_connection_dropped())
}

/// True if this Redis will never: it is not the master any more, or the keys are elsewhere.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    matches!(
        error.code(),
        Some("READONLY" | "MOVED" | "ASK" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN")
    )
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
