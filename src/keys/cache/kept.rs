//! The cache's snapshot file: what was looked up outlives a restart.
//!
//! It is written as a whole to a file beside it, readable for its owner alone, and moved into
//! place. A file that cannot be used (corrupt, of another version, of another upstream or region) is
//! set aside with a warning: the cache then starts empty. What Osprey has not written is neither
//! moved nor replaced ([`look`]), and nothing is kept while it stands there.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Inner, KeyCache};
use crate::config::{Found, KEY_RECORDS, Keys, look};
use crate::facts::{Outcome, Stamp, What};
use crate::keys::cloud::timestamp;
use crate::keys::{Encryption, KeyRecord, KeyState, KmsKey, Origin};

const VERSION: u32 = 1;
/// How long after a lookup the file is written: those that come together are written together.
const DELAY: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    upstream: String,
    region: Option<String>,
    records: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    project: String,
    encryption: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Key>,
    learned: bool,
    looked_up: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    None,
    DefaultKey,
    Kms,
}

#[derive(Serialize, Deserialize)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    state: State,
    origin: Option<String>,
    material_expires: Option<String>,
    deletion: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeyState")]
enum StateText {
    Unknown,
    Enabled,
    Disabled,
    PendingDeletion,
    PendingImport,
}

#[derive(Serialize, Deserialize)]
struct State(#[serde(with = "StateText")] KeyState);

impl KeyCache {
    /// Takes in the records of `[keys] snapshot`, if there is such a file, and keeps it up to date
    /// from now on for as long as the cache lives. `upstream` is what it must be about.
    pub fn keep(&self, upstream: String) {
        let settings = self.0.settings.load_full();
        let mut landings = self.0.landings.subscribe();
        if let Some(path) = &settings.snapshot {
            match load(path, &upstream, &settings) {
                Ok(records) => {
                    let count = self.restore(records);
                    tracing::info!(
                        records = count,
                        "key records of before the restart are in use"
                    );
                }
                Err(Unusable::Ours(why)) => {
                    // It may be the other way round, since the address is the one of before again.
                    let before = load(&aside(path), &upstream, &settings);
                    set_aside(path, &why);
                    let before = before.unwrap_or_default();
                    if !before.is_empty() {
                        let records = self.restore(before);
                        tracing::info!(records, "key records that were set aside are in use again");
                        self.changed();
                    }
                }
                Err(Unusable::NotOurs(why)) => tracing::warn!(
                    path = %path.display(),
                    "keys.snapshot {why}: no key records are kept there"
                ),
            }
        }
        // It is kept once, whatever the settings become later.
        let _ = self.0.keeping.upstream.set(upstream);
        let cache = Arc::downgrade(&self.0);
        self.0.runtime.spawn(async move {
            while landings.changed().await.is_ok() {
                tokio::time::sleep(DELAY).await;
                landings.mark_unchanged();
                let Some(inner) = cache.upgrade() else { return };
                write(&inner).await;
            }
        });
    }

    /// Writes what has not been written yet: for the end of the process, which does not wait for
    /// the next time.
    pub async fn save(&self) {
        write(&self.0).await;
    }

    /// The records, or those looked up after a time, as the file has them: for the process that takes
    /// over. `None`: there are none.
    pub fn told(&self, after: Option<SystemTime>) -> Option<String> {
        let file = file(&self.0, after)?;
        if file.records.is_empty() {
            return None;
        }
        serde_json::to_string(&file).ok()
    }

    /// Takes in what another process tells of the same upstream, as far as it is newer than what is
    /// known; false: it is about another one, or not to be understood.
    pub fn take_in(&self, told: &str) -> bool {
        let (settings, about) = (self.0.settings.load_full(), self.0.keeping.upstream.get());
        let Some(records) = about.and_then(|about| read(told.as_bytes(), about, &settings).ok())
        else {
            return false;
        };
        self.merge(records);
        true
    }

    /// From now on another process keeps the file.
    pub fn leave_file(&self) {
        self.0.keeping.left.store(true, Ordering::Relaxed);
    }

    /// The process that kept the file is gone: what it has written there stays, and this one writes
    /// what is newer.
    pub async fn take_file_back(&self) {
        let (settings, about) = (self.0.settings.load_full(), self.0.keeping.upstream.get());
        if let (Some(path), Some(about)) = (&settings.snapshot, about)
            && let Ok(records) = load(path, about, &settings)
        {
            self.merge(records);
        }
        self.0.keeping.left.store(false, Ordering::Relaxed);
        self.save().await;
    }

    fn merge(&self, records: Vec<KeyRecord>) {
        let count = self.restore(records);
        if count > 0 {
            self.changed();
            self.bound();
            tracing::info!(records = count, "key records of another process are in use");
        }
    }

    /// Takes in records that were looked up by another process: as old as they say, so that a fresh
    /// one is not looked up again, and one past its time serves only while the cloud is away. Returns
    /// how many were news.
    fn restore(&self, records: Vec<KeyRecord>) -> usize {
        let capacity = self.0.settings.load().capacity;
        let taken = records.into_iter().take(capacity).filter(|record| {
            let project = record.project.clone();
            let at = Stamp::of(record.looked_up);
            let what = match record.origin {
                Origin::Learned => What::Lesson { project },
                Origin::Configured | Origin::Cloud => What::Key {
                    project,
                    encryption: Some(record.encryption.clone()),
                },
            };
            let mut entry = self.0.entries.entry(record.project.clone()).or_default();
            entry.settled = true;
            self.apply(&record.project, &mut entry, &what, at) != Outcome::Old
        });
        taken.count()
    }
}

/// Writes the file, unless it has everything; one at a time.
async fn write(inner: &Inner) {
    let mut written = inner.keeping.written.lock().await;
    let settings = inner.settings.load_full();
    let Some(path) = settings.snapshot.clone() else {
        return;
    };
    let landed = *inner.landings.borrow();
    if *written == landed || inner.keeping.left.load(Ordering::Relaxed) {
        return;
    }
    let Some(file) = file(inner, None) else {
        return;
    };
    let outcome = tokio::task::spawn_blocking({
        let path = path.clone();
        move || replace(&path, &serde_json::to_vec_pretty(&file)?)
    });
    match outcome.await {
        Ok(Ok(())) => *written = landed,
        Ok(Err(error)) => {
            tracing::warn!(path = %path.display(), %error, "cannot write keys.snapshot");
        }
        // A fault of Osprey's own has said so itself.
        Err(_) => {}
    }
}

/// What the file has to hold: all, or what was looked up after a time. `None`: it is not known what
/// it is about.
fn file(inner: &Inner, after: Option<SystemTime>) -> Option<File> {
    let upstream = inner.keeping.upstream.get()?.clone();
    let records = inner.entries.iter().filter_map(|entry| {
        let record = &entry.known.as_ref()?.record;
        // The configuration itself is at hand after a restart.
        let is_kept = record.origin != Origin::Configured
            && after.is_none_or(|after| record.looked_up > after);
        is_kept.then(|| keep(record))
    });
    let mut records: Vec<Kept> = records.collect();
    records.sort_unstable_by(|a, b| a.project.cmp(&b.project));
    Some(File {
        format: KEY_RECORDS.into(),
        version: VERSION,
        upstream,
        region: region(&inner.settings.load()),
        records,
    })
}

fn region(settings: &Keys) -> Option<String> {
    settings.cloud.as_ref().map(|cloud| cloud.region.clone())
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    may_go(path)?;
    let beside = with_suffix(path, "new");
    may_go(&beside)?;
    // What an earlier process left there, with whatever permissions.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    let outcome = written.and_then(|()| fs::rename(&beside, path));
    if outcome.is_err() {
        // Where there is no room, half a file takes some of it.
        let _ = fs::remove_file(&beside);
    }
    outcome
}

/// What stands in the place of key records is Osprey's own, or nothing is there.
fn may_go(path: &Path) -> io::Result<()> {
    match look(path)? {
        Found::Nothing | Found::KeyRecords => Ok(()),
        Found::Else(why) => Err(io::Error::new(
            ErrorKind::AlreadyExists,
            format!("{} {why}", path.display()),
        )),
    }
}

/// Why the file cannot be used.
enum Unusable {
    /// Osprey has written it.
    Ours(String),
    /// It is not known that Osprey has.
    NotOurs(String),
}

fn load(path: &Path, upstream: &str, settings: &Keys) -> Result<Vec<KeyRecord>, Unusable> {
    let text = match look(path) {
        Ok(Found::Nothing) => return Ok(Vec::new()),
        Ok(Found::Else(why)) => return Err(Unusable::NotOurs(why.into())),
        Ok(Found::KeyRecords) => fs::read(path),
        Err(error) => Err(error),
    };
    let text = text.map_err(|error| Unusable::NotOurs(format!("cannot be read: {error}")))?;
    read(&text, upstream, settings).map_err(Unusable::Ours)
}

fn read(text: &[u8], upstream: &str, settings: &Keys) -> Result<Vec<KeyRecord>, String> {
    let file: File =
        serde_json::from_slice(text).map_err(|error| format!("is not whole: {error}"))?;
    if file.format != KEY_RECORDS || file.version != VERSION {
        return Err(format!("is of version {}, not {VERSION}", file.version));
    }
    if !is_same(&file.upstream, upstream) || file.region != region(settings) {
        let region = file.region.as_deref().unwrap_or("none");
        return Err(format!("is about {} (region {region})", file.upstream));
    }
    file.records
        .into_iter()
        .map(|kept| record(kept).ok_or_else(|| "has a record without a time".to_owned()))
        .collect()
}

/// True if these are addresses of one instance: they have one in common.
fn is_same(one: &str, other: &str) -> bool {
    let mut addresses = one.split(", ");
    addresses.any(|address| other.split(", ").any(|other| other == address))
}

/// Where a file stands that was set aside.
fn aside(path: &Path) -> PathBuf {
    with_suffix(path, "set-aside")
}

fn set_aside(path: &Path, why: &str) {
    let aside = aside(path);
    let moved = may_go(&aside).and_then(|()| fs::rename(path, &aside));
    tracing::warn!(
        path = %path.display(),
        aside = %aside.display(),
        error = moved.err().map(tracing::field::display),
        "keys.snapshot {why}; it is set aside, and projects are looked up again"
    );
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn keep(record: &KeyRecord) -> Kept {
    let (encryption, key) = match &record.encryption {
        Encryption::None => (Kind::None, None),
        Encryption::DefaultKey => (Kind::DefaultKey, None),
        Encryption::Kms(key) => (Kind::Kms, Some(key)),
    };
    Kept {
        project: record.project.clone(),
        encryption,
        key: key.map(|key| Key {
            id: key.id.clone(),
            algorithm: key.algorithm.clone(),
            state: State(key.state),
            origin: key.origin.clone(),
            material_expires: key.material_expires.map(timestamp::format),
            deletion: key.deletion.map(timestamp::format),
        }),
        learned: record.origin == Origin::Learned,
        looked_up: timestamp::format(record.looked_up),
    }
}

fn record(kept: Kept) -> Option<KeyRecord> {
    let time = |text: Option<String>| -> Option<SystemTime> { timestamp::parse(&text?) };
    let encryption = match kept.encryption {
        Kind::None => Encryption::None,
        Kind::DefaultKey => Encryption::DefaultKey,
        Kind::Kms => Encryption::Kms(kept.key.map_or_else(KmsKey::default, |key| KmsKey {
            id: key.id,
            algorithm: key.algorithm,
            state: key.state.0,
            origin: key.origin,
            material_expires: time(key.material_expires),
            deletion: time(key.deletion),
        })),
    };
    Some(KeyRecord {
        project: kept.project,
        encryption,
        origin: if kept.learned {
            Origin::Learned
        } else {
            Origin::Cloud
        },
        looked_up: timestamp::parse(&kept.looked_up)?,
    })
}
