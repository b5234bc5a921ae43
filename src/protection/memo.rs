//! Decisions remembered by exact text and name context, in bounded memory.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::decision::Decision;
use super::names::NameContext;

/// The length up to which texts are remembered: reading a longer one again costs less than what it
/// would push out.
pub(super) const MAX_TEXT: usize = 64 << 10;

/// Bytes that are remembered of texts that were read in full.
pub(super) const READ_BYTES: usize = 8 << 20;

/// Bytes that are remembered of texts that need not be read. There are more of these, and deciding them
/// anew costs little.
pub(super) const QUICK_BYTES: usize = 4 << 20;

/// Shards keep sessions on different workers out of each other's way.
const SHARDS: usize = 16;

/// What an entry costs beside its text.
const ENTRY_BYTES: usize = 256;

#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    names: NameContext,
    decision: Arc<Decision>,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<u64, Entry, RandomState>,
    bytes: usize,
}

/// A bounded map from text and name context to decision.
#[derive(Debug)]
pub(super) struct Memo {
    shards: [Mutex<Shard>; SHARDS],
    /// Bytes that a shard holds before it starts anew.
    shard_bytes: usize,
}

/// Makes the keys of [`Memo::get`] and [`Memo::insert`].
#[derive(Debug, Default)]
pub(super) struct Hasher(RandomState);

impl Hasher {
    /// The key of a text whose decision is the same whatever names mean.
    pub(super) fn text(&self, text: &[u8]) -> u64 {
        self.0.hash_one(text)
    }

    /// The key of a text, given as [`Self::text`] has it, together with what names mean.
    pub(super) fn with_names(&self, text: u64, names: &NameContext) -> u64 {
        self.0.hash_one((text, names))
    }
}

impl Memo {
    /// A memo that holds about so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            shards: Default::default(),
            shard_bytes: bytes / SHARDS,
        }
    }

    /// The decision that is remembered for this text and these names; `hash` is their key, see
    /// [`Hasher`].
    pub(super) fn get(&self, hash: u64, text: &[u8], names: &NameContext) -> Option<Arc<Decision>> {
        let shard = self
            .shard(hash)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entries.get(&hash)?;
        (*entry.text == *text && entry.names == *names).then(|| Arc::clone(&entry.decision))
    }

    /// Remembers a decision. If that is more than the memo may hold, a sixteenth of it is
    /// forgotten.
    pub(super) fn insert(
        &self,
        hash: u64,
        text: &[u8],
        names: &NameContext,
        decision: Arc<Decision>,
    ) {
        if text.len() > MAX_TEXT {
            return;
        }
        let entry = Entry {
            text: text.into(),
            names: names.clone(),
            decision,
        };
        // Declared before the lock is taken: what is thrown out is freed after it is released.
        let mut thrown_out = HashMap::default();
        let mut shard = self
            .shard(hash)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let cost = text.len() + ENTRY_BYTES;
        if shard.bytes + cost > self.shard_bytes {
            std::mem::swap(&mut shard.entries, &mut thrown_out);
            shard.bytes = 0;
        }
        shard.bytes += cost;
        shard.entries.insert(hash, entry);
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 60) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_by_text_and_names_and_stays_bounded() {
        let memo = Memo::new(8 << 20);
        let hasher = Hasher::default();
        let hash = |text: &[u8], names: &NameContext| hasher.with_names(hasher.text(text), names);
        let names = NameContext::default();
        let other = NameContext {
            search_path: Some(vec!["a".into()]),
            ..NameContext::default()
        };
        let decision = Arc::new(Decision::default());
        let key = hash(b"select 1", &names);
        memo.insert(key, b"select 1", &names, Arc::clone(&decision));
        let found = memo.get(key, b"select 1", &names).expect("remembered");
        assert!(Arc::ptr_eq(&found, &decision));
        assert!(
            memo.get(key, b"select 2", &names).is_none(),
            "a collision is no hit"
        );
        assert!(memo.get(key, b"select 1", &other).is_none());
        assert_ne!(key, hash(b"select 1", &other), "both are remembered");

        for number in 0..20_000 {
            let text = format!("select {number:0>1000}").into_bytes();
            memo.insert(hash(&text, &names), &text, &names, Arc::clone(&decision));
        }
        for shard in &memo.shards {
            let shard = shard.lock().expect("not poisoned");
            let held: usize = shard.entries.values().map(|entry| entry.text.len()).sum();
            assert!(held <= memo.shard_bytes && !shard.entries.is_empty());
        }
        let long = vec![b'x'; MAX_TEXT + 1];
        let key = hash(&long, &names);
        memo.insert(key, &long, &names, decision);
        assert!(memo.get(key, &long, &names).is_none());
    }
}
