//! Whether a text holds any of a few words, in any case: one load for each byte.

use std::collections::HashMap;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, MatchKind, StartKind};
use foldhash::fast::FixedState;

/// Bytes that the words hold are told apart, and all others are one: so many of them have room.
const CLASSES: usize = 64;
/// So many states have room.
const MAX_STATES: usize = (1 << 16) / CLASSES;

/// The state in which a word has been found, which is not left again.
const FOUND: u16 = 0;
/// An automaton that can say nothing but whether. Its states are the places of their rows, so that no
/// look into the table needs its bounds checked.
#[derive(Debug)]
pub(super) struct Scan {
    class: [u8; 256],
    next: Box<[u16; 1 << 16]>,
}

impl Scan {
    /// The state at the beginning of a text.
    pub(super) const START: u16 = CLASSES as u16;

    /// A scan for these words; `None`: they are too many, or of too many different bytes.
    pub(super) fn new<'w>(words: impl IntoIterator<Item = &'w [u8]> + Clone) -> Option<Self> {
        let automaton = DFA::builder()
            .match_kind(MatchKind::Standard)
            .start_kind(StartKind::Unanchored)
            .ascii_case_insensitive(true)
            .prefilter(false)
            .build(words.clone())
            .ok()?;
        let (class, bytes) = classes(words)?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut numbers: HashMap<StateID, u16, FixedState> = HashMap::default();
        let mut states: Vec<StateID> = vec![start];
        let mut next = vec![FOUND; 1 << 16];
        let mut done = 0;
        while let Some(&state) = states.get(done) {
            done += 1;
            for (class, byte) in bytes.iter().enumerate() {
                let to = automaton.next_state(Anchored::No, state, *byte);
                if to == start {
                    next[done * CLASSES + class] = Self::START;
                    continue;
                }
                if automaton.is_match(to) {
                    continue;
                }
                let number = match numbers.get(&to) {
                    Some(known) => *known,
                    None if states.len() + 1 == MAX_STATES => return None,
                    None => {
                        states.push(to);
                        let number = u16::try_from(states.len() * CLASSES).ok()?;
                        numbers.insert(to, number);
                        number
                    }
                };
                next[done * CLASSES + class] = number;
            }
        }
        let next = next.into_boxed_slice().try_into().ok()?;
        Some(Self { class, next })
    }

    /// True if `text` holds one of the words.
    pub(super) fn finds_any(&self, text: &[u8]) -> bool {
        self.passes(Self::START, text).is_none()
    }

    /// True if a text that has come to this state holds none of the words, and none of the marked bytes in
    /// the rest of it.
    #[inline]
    pub(super) fn passes_unmarked(
        &self,
        mut state: u16,
        rest: &[u8],
        marked: &[bool; 256],
    ) -> bool {
        let mut is_marked = false;
        for byte in rest {
            is_marked |= marked[usize::from(*byte)];
            state = self.step(state, *byte);
        }
        !is_marked && state != FOUND
    }

    /// True if a text that has come to this state may go on with any of these bytes, as often as they come,
    /// and holds none of the words.
    pub(super) fn passes_all(&self, state: u16, bytes: &[u8]) -> bool {
        const MANY: usize = 64;
        let mut reached = vec![state];
        let mut at = 0;
        while let Some(&state) = reached.get(at) {
            if at == MANY {
                return false;
            }
            at += 1;
            for byte in bytes {
                let next = self.step(state, *byte);
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
        }
        !reached.contains(&FOUND)
    }

    #[inline]
    fn step(&self, state: u16, byte: u8) -> u16 {
        let class = u16::from(self.class[usize::from(byte)]);
        self.next[usize::from(state | class)]
    }

    /// The state behind `text`, if that goes on from this state; `None`: it holds one of the words, or ends
    /// one.
    #[inline]
    pub(super) fn passes(&self, mut state: u16, text: &[u8]) -> Option<u16> {
        for piece in text.chunks(256) {
            for byte in piece {
                state = self.step(state, *byte);
            }
            if state == FOUND {
                return None;
            }
        }
        Some(state)
    }
}

/// The class of each byte, and one byte of each class; the first is that of all that no word holds. `None`:
/// they are too many.
fn classes<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Option<([u8; 256], Vec<u8>)> {
    let mut held = [false; 256];
    for byte in words.into_iter().flatten() {
        held[usize::from(byte.to_ascii_lowercase())] = true;
    }
    let mut class = [0; 256];
    let is_other = |byte: &u8| !held[usize::from(byte.to_ascii_lowercase())];
    let mut bytes = vec![(0..=u8::MAX).find(is_other)?];
    for byte in 0..=u8::MAX {
        if held[usize::from(byte)] {
            class[usize::from(byte)] = u8::try_from(bytes.len()).ok()?;
            bytes.push(byte);
        }
    }
    for upper in b'A'..=b'Z' {
        class[usize::from(upper)] = class[usize::from(upper.to_ascii_lowercase())];
    }
    (bytes.len() <= CLASSES).then_some((class, bytes))
}

#[cfg(test)]
mod tests {
    use aho_corasick::AhoCorasick;
    use proptest::prelude::*;

    use super::*;

    const WORDS: [&[u8]; 5] = [b"into", b"\"select\"", b"ab", b"bab", b"--"];

    #[test]
    fn too_many_words_have_no_table() {
        let scan = |count| {
            let words: Vec<_> = (0..count).map(|n| format!("{n:03}_relation")).collect();
            Scan::new(words.iter().map(String::as_bytes))
        };
        assert!(scan(90).is_some_and(|scan| scan.finds_any(b"the 089_RELATION")));
        assert!(scan(200).is_none());
        let all: Vec<_> = (0..=u8::MAX).map(|byte| [byte]).collect();
        assert!(Scan::new(all.iter().map(<[u8; 1]>::as_slice)).is_none());
    }

    proptest! {
        #[test]
        fn it_finds_what_the_library_finds(text in "[abintoINTO\"SELECTselect -]{0,40}", gap in 0..400_usize) {
            let text = [vec![b'x'; gap], text.into_bytes()].concat();
            let library = AhoCorasick::builder().ascii_case_insensitive(true).build(WORDS);
            let found = library.is_ok_and(|library| library.is_match(&text));
            let scan = Scan::new(WORDS);
            prop_assert_eq!(scan.is_some_and(|scan| scan.finds_any(&text)), found);
        }
    }
}
