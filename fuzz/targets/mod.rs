//! What is fuzzed: one function a target, each of which panics if an invariant does not hold.
//!
//! They run in two ways: `fuzz/run`, guided by coverage, for as long as one likes; and under
//! `cargo test`, in `tests/fuzz.rs`, over the kept corpus and random mutations of it.

pub(crate) mod core;
pub(crate) mod frames;
pub(crate) mod sql;
pub(crate) mod startup;

/// A target's name, which is also that of its corpus, and the function.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ALL: [Target; 4] = [
    ("frames", frames::run),
    ("core", core::run),
    ("startup", startup::run),
    ("sql", sql::run),
];

/// The input, taken apart from the front; at its end everything is zero.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// The whole input.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// True if nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// The next `count` bytes, or as many as there are.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// One of `choices`.
    pub(crate) fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}
