//! The task that keeps up the connection to the Redis: it reads what others have found, and passes on
//! what this replica finds.
//!
//! Whenever it has connected, it reads the whole stream first and then writes what is known here and not
//! there. So replicas converge after any time for which the Redis was away, and after it has lost its
//! data.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use super::connect::{ANSWER_TIMEOUT, Connector, told};
use super::member::Member;
use super::shared::Shared;
use super::store::{Names, PAGE, Store, follow, is_elsewhere, is_refusal};
use crate::chance::{fraction, half_or_more};
use crate::facts::Fact;

/// Waits between attempts to connect: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often the Redis is asked whether it is there.
const BEAT: Duration = Duration::from_secs(2);
/// How long to wait for the answer to a question that itself waits for a second.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait before what was refused is written again.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// What others may write meanwhile need not be written again.
const SPREAD: Duration = Duration::from_millis(300);
/// Reasons that are logged while it is away.
const MOST_SAID: usize = 4;
/// Characters of a replica's name.
const MOST_NAME: usize = 100;
/// Facts that are written at a time.
const BATCH: usize = 100;

/// The upstreams that take part.
pub(super) type Members = Arc<Mutex<Vec<Weak<Member>>>>;

/// Why the connection is given up, or what it is used for begins anew.
enum End {
    /// It is broken.
    Broken(RedisError),
    /// What is there is to be compared with what is known here.
    Again,
    /// The data was lost.
    Lost,
    /// The Redis has refused to write.
    Refused(RedisError),
}

impl From<RedisError> for End {
    fn from(error: RedisError) -> Self {
        if is_refusal(&error) && !is_elsewhere(&error) {
            Self::Refused(error)
        } else {
            Self::Broken(error)
        }
    }
}

/// Connects, and connects again, for as long as the process lives.
pub(super) async fn run(shared: Arc<Shared>, connector: Connector, members: Members) {
    let names = Names::new(&shared.settings.key_prefix, "");
    let mut wait = FIRST_WAIT;
    // What it is away for, as far as that was said since it was there last.
    let mut said = HashSet::new();
    loop {
        let marker = names.marker();
        let both = async {
            Ok((
                connector.connect(&marker).await?,
                connector.connect(&marker).await?,
            ))
        };
        let error = match both.await {
            Ok((asks, follows)) => {
                wait = FIRST_WAIT;
                said.clear();
                tracing::info!("connected to the replicas' Redis");
                shared.connection.store(Some(Arc::new(asks.clone())));
                shared.doubted.store(false, Ordering::Release);
                shared.counts.connected.store(true, Ordering::Release);
                let error = serve(&shared, &members, &names, &asks, follows).await;
                shared.counts.connected.store(false, Ordering::Release);
                shared.connection.store(None);
                told(&error)
            }
            Err(error) => {
                let error: super::connect::Unconnected = error;
                error.to_string()
            }
        };
        if said.len() < MOST_SAID && said.insert(error.clone()) {
            tracing::warn!(
                %error,
                "the replicas' Redis is away; this replica goes on alone until it is back"
            );
        }
        sleep(half_or_more(wait)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Uses the connections until they break.
async fn serve(
    shared: &Shared,
    members: &Members,
    names: &Names,
    asks: &MultiplexedConnection,
    mut follows: MultiplexedConnection,
) -> RedisError {
    follows.set_response_timeout(FOLLOW_TIMEOUT);
    let store = Store {
        connection: asks.clone(),
        counts: &shared.counts,
        deadline: ANSWER_TIMEOUT,
    };
    let mut marker = None;
    let mut begin_anew = true;
    let mut is_told = false;
    loop {
        let present: Vec<Arc<Member>> = {
            let mut members = members.lock().unwrap_or_else(PoisonError::into_inner);
            members.retain(|member| member.strong_count() > 0);
            members.iter().filter_map(Weak::upgrade).collect()
        };
        // Whatever is found from here on is heard.
        let heard: Vec<_> = present.iter().map(|member| member.bus.listen()).collect();
        let end = async {
            for member in &present {
                if begin_anew {
                    member.read_anew();
                }
                compare(&store, member).await?;
            }
            Ok::<(), RedisError>(())
        };
        let end = if let Err(error) = end.await {
            End::from(error)
        } else {
            tokio::select! {
                end = read(&mut follows, &present) => end,
                end = write(&store, &present, heard) => end,
                end = beat(shared, &store, names, &shared.by, &mut marker) => end,
                () = shared.again.notified() => End::Again,
            }
        };
        begin_anew = false;
        match end {
            End::Broken(error) => return error,
            End::Again => {}
            End::Lost => {
                tracing::warn!(
                    "the replicas' Redis has lost its data; what is known here goes there"
                );
                begin_anew = true;
            }
            End::Refused(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    let error = told(&error);
                    tracing::warn!(%error, "the replicas' Redis refuses to write; it is tried again");
                }
                // Meanwhile it is read, and asked whether it is there.
                tokio::select! {
                    end = read(&mut follows, &present) => if let End::Broken(error) = end {
                        return error;
                    },
                    end = beat(shared, &store, names, &shared.by, &mut marker) => match end {
                        End::Broken(error) => return error,
                        End::Lost => begin_anew = true,
                        End::Again | End::Refused(_) => sleep(REFUSED_WAIT).await,
                    },
                    () = sleep(REFUSED_WAIT) => {}
                }
            }
        }
    }
}

/// Reads what the stream has, and writes what it lacks.
async fn compare(store: &Store<'_>, member: &Member) -> Result<(), RedisError> {
    catch_up(store, member).await?;
    if member.lacks().is_empty() {
        return Ok(());
    }
    // Of many replicas that know the same, one writes it.
    sleep(SPREAD.mul_f64(fraction())).await;
    catch_up(store, member).await?;
    for batch in member.lacks().chunks(BATCH) {
        member.send(store, batch).await?;
    }
    Ok(())
}

async fn catch_up(store: &Store<'_>, member: &Member) -> Result<(), RedisError> {
    loop {
        let page = store.page(&member.names, &member.behind()).await?;
        for entry in &page {
            member.receive(entry);
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

/// Takes in what others find; ends with an error.
async fn read(connection: &mut MultiplexedConnection, members: &[Arc<Member>]) -> End {
    if members.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let behind: Vec<_> = members
            .iter()
            .map(|member| (member.names.facts(), member.behind()))
            .collect();
        let read = match follow(connection, &behind).await {
            Ok(read) => read,
            Err(error) => return End::Broken(error),
        };
        for (stream, entries) in read {
            let member = members.iter().find(|member| member.names.facts() == stream);
            for entry in &entries {
                if let Some(member) = member {
                    member.receive(entry);
                }
            }
        }
    }
}

/// Passes on what is found here; ends with an error, or because somebody was too fast.
async fn write(store: &Store<'_>, members: &[Arc<Member>], heard: Vec<Receiver<Arc<Fact>>>) -> End {
    let each = members
        .iter()
        .zip(heard)
        .map(|(member, mut heard)| async move {
            loop {
                let mut facts = match heard.recv().await {
                    Ok(fact) => vec![fact],
                    Err(RecvError::Lagged(_)) => return End::Again,
                    Err(RecvError::Closed) => return std::future::pending().await,
                };
                while facts.len() < BATCH
                    && let Ok(fact) = heard.try_recv()
                {
                    facts.push(fact);
                }
                if let Err(error) = member.send(store, &facts).await {
                    return End::from(error);
                }
            }
        });
    let mut each: FuturesUnordered<_> = each.collect();
    match each.next().await {
        Some(end) => end,
        None => std::future::pending().await,
    }
}

/// Says that this replica is there; ends with an error, or if the data was lost.
async fn beat(
    shared: &Shared,
    store: &Store<'_>,
    names: &Names,
    by: &str,
    marker: &mut Option<String>,
) -> End {
    loop {
        let now = shared.now();
        // Any that nobody has used before.
        let own = format!("{by}/{}", now.0);
        let (present, replicas) = match store.beat(names, by, now, &own).await {
            Ok(answer) => answer,
            Err(error) => return End::from(error),
        };
        shared.doubted.store(false, Ordering::Release);
        let replica = |(name, at): (String, f64)| {
            // Whatever stands there: a name of ours is short, and a time is one.
            let name: String = name.chars().take(MOST_NAME).collect();
            let seconds = (now.seconds() - at / 1_000.0).max(0.0);
            (
                name,
                Duration::try_from_secs_f64(seconds).unwrap_or_default(),
            )
        };
        let seen = replicas.into_iter().map(replica).collect();
        *shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let before = marker.replace(present.clone());
        if before.is_some_and(|before| before != present) {
            return End::Lost;
        }
        tokio::select! {
            () = sleep(BEAT) => {}
            () = shared.doubt.notified() => {}
        }
    }
}
