//! ParameterStatus while something is run again. What the first run had reported is taken back when
//! it fails, and reported once more by the second: the client hears of what is not so in the end.

use crate::wire::{HEADER, split_cstr};

/// The latest ParameterStatus of each parameter, in the order in which they came first.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<Vec<u8>>);

/// The parameter's name.
fn name(frame: &[u8]) -> &[u8] {
    let body = frame.get(HEADER..).unwrap_or_default();
    split_cstr(body).map_or(body, |(name, _)| name)
}

/// PostgreSQL reports some fifteen.
const MOST: usize = 100;

impl Parameters {
    /// False: they are more than any server reports, and this one is not kept.
    pub(super) fn note(&mut self, frame: &[u8]) -> bool {
        let has_room = self.0.len() < MOST;
        match self.0.iter_mut().find(|known| name(known) == name(frame)) {
            Some(known) => frame.clone_into(known),
            None if has_room => self.0.push(frame.to_vec()),
            None => return false,
        }
        true
    }

    pub(super) fn forget(&mut self, frame: &[u8]) {
        self.0.retain(|known| name(known) != name(frame));
    }

    /// What `told` says otherwise, or not at all.
    pub(super) fn beyond(&self, told: &Self) -> Vec<u8> {
        let news = self.0.iter().filter(|frame| !told.0.contains(frame));
        news.flatten().copied().collect()
    }
}
