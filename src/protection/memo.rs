//! Decisions remembered by exact text and name context, in bounded memory.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::{Decision, NameContext};

/// Longer texts are not kept: reading them again costs less than what they would push out.
pub(super) const MAX_TEXT: usize = 64 << 10;

/// Shards keep sessions on different workers out of each other's way.
const SHARDS: usize = 16;

/// Bytes of text that a shard holds before it starts anew: 8 MiB for the whole memo.
const SHARD_BYTES: usize = 512 << 10;

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
#[derive(Debug, Default)]
pub(super) struct Memo {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

impl Memo {
    /// The key to pass to `get` and `insert`.
    pub(super) fn hash(&self, text: &[u8], names: &NameContext) -> u64 {
        self.hasher.hash_one((text, names))
    }

    pub(super) fn get(&self, hash: u64, text: &[u8], names: &NameContext) -> Option<Arc<Decision>> {
        let shard = self
            .shard(hash)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entries.get(&hash)?;
        (*entry.text == *text && entry.names == *names).then(|| Arc::clone(&entry.decision))
    }

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
        if shard.bytes + cost > SHARD_BYTES {
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
        let memo = Memo::default();
        let names = NameContext::default();
        let other = NameContext {
            search_path: Some(vec!["a".into()]),
            ..NameContext::default()
        };
        let decision = Arc::new(Decision::default());
        let hash = memo.hash(b"select 1", &names);
        memo.insert(hash, b"select 1", &names, Arc::clone(&decision));
        let found = memo.get(hash, b"select 1", &names).expect("remembered");
        assert!(Arc::ptr_eq(&found, &decision));
        assert!(
            memo.get(hash, b"select 2", &names).is_none(),
            "a collision is no hit"
        );
        assert!(memo.get(hash, b"select 1", &other).is_none());

        for number in 0..20_000 {
            let text = format!("select {number:0>1000}").into_bytes();
            let hash = memo.hash(&text, &names);
            memo.insert(hash, &text, &names, Arc::clone(&decision));
        }
        for shard in &memo.shards {
            let shard = shard.lock().expect("not poisoned");
            let held: usize = shard.entries.values().map(|entry| entry.text.len()).sum();
            assert!(held <= SHARD_BYTES && !shard.entries.is_empty());
        }
        let long = vec![b'x'; MAX_TEXT + 1];
        let hash = memo.hash(&long, &names);
        memo.insert(hash, &long, &names, decision);
        assert!(memo.get(hash, &long, &names).is_none());
    }
}
