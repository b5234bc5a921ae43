//! The texts that the client sent last, and what was decided of them: a client sends the same few
//! again and again, or some that differ only in the values behind a beginning that stays.

use std::sync::Arc;

use crate::protection::{Beginning, Decision, Lexing, Source};

/// Of the world's knowledge, and of how names resolve in the session.
pub(super) type Generation = (u64, u32);

/// The text of a Query is decided in less time than it is found again, if it is shorter: such texts
/// often hold what differs from one to the next.
pub(super) const WORTH_REMEMBERING: usize = 128;

/// Longer texts are decided anew each time.
const MAX_REMEMBERED: usize = 1 << 10;

/// So many texts are remembered.
const REMEMBERED: usize = 4;

/// A beginning that two texts have in common is worth remembering if it has so many bytes.
const WORTH_SHARING: usize = 16;

/// A text that the client has sent, and what was decided of it.
#[derive(Debug)]
struct Seen {
    text: Box<[u8]>,
    generation: Generation,
    lexing: Lexing,
    decision: Arc<Decision>,
}

/// The texts that were decided last.
#[derive(Debug, Default)]
struct Texts {
    seen: Vec<Seen>,
    /// The next one takes the place of this one.
    oldest: usize,
}

/// A text that was decided without reading it.
#[derive(Debug)]
struct Glanced {
    text: Vec<u8>,
    /// What is known of its beginning, which it has in common with the one before it: how many bytes it
    /// has, and when it was found out.
    shared: Option<(usize, Beginning, Generation)>,
    decision: Arc<Decision>,
}

/// What is remembered of one session's texts.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    texts: Option<Box<Texts>>,
    glanced: Option<Box<Glanced>>,
}

/// How many bytes two texts have in common at their beginning.
fn shared(one: &[u8], other: &[u8]) -> usize {
    let mut pairs = one.iter().zip(other);
    let differs = pairs.position(|(one, other)| one != other);
    differs.unwrap_or(one.len().min(other.len()))
}

impl Remembered {
    /// What was decided of this text, if it was sent not long ago, and by the same knowledge.
    pub(super) fn decided(
        &self,
        text: &[u8],
        generation: Generation,
        lexing: Lexing,
    ) -> Option<Arc<Decision>> {
        self.find(generation, lexing, |seen| *seen == *text)
    }

    /// The same of the text that this begins with, and that a zero ends.
    #[inline]
    pub(super) fn decided_up_to_zero(
        &self,
        begins: &[u8],
        generation: Generation,
        lexing: Lexing,
    ) -> Option<Arc<Decision>> {
        self.find(generation, lexing, |seen| {
            begins.get(seen.len()) == Some(&0) && begins.starts_with(seen)
        })
    }

    #[inline]
    fn find(
        &self,
        generation: Generation,
        lexing: Lexing,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Option<Arc<Decision>> {
        let texts = self.texts.as_deref()?;
        let mut all = texts.seen.iter();
        let seen = all.find(|seen| {
            seen.generation == generation && seen.lexing == lexing && is_it(&seen.text)
        })?;
        Some(Arc::clone(&seen.decision))
    }

    /// Remembers what was decided of a text. What is so by a lesson is not: that is forgotten with
    /// time.
    pub(super) fn remember(
        &mut self,
        text: &[u8],
        generation: Generation,
        lexing: Lexing,
        decision: &Arc<Decision>,
    ) {
        let protected = decision.protected.as_deref();
        let learned = protected.is_some_and(|reason| reason.source == Source::Learned);
        if learned || text.len() > MAX_REMEMBERED {
            return;
        }
        let new = Seen {
            text: text.into(),
            generation,
            lexing,
            decision: Arc::clone(decision),
        };
        let Texts { seen, oldest } = &mut **self.texts.get_or_insert_default();
        if let Some(place) = seen.get_mut(*oldest) {
            *place = new;
        } else {
            seen.push(new);
        }
        *oldest = (*oldest + 1) % REMEMBERED;
    }

    /// What is known of the beginning that this text has in common with those before it, by the same
    /// knowledge: the rest of the text, and what was decided of the others.
    #[inline]
    pub(super) fn begins_as_before<'t>(
        &self,
        text: &'t [u8],
        generation: Generation,
    ) -> Option<(&Beginning, &'t [u8], &Arc<Decision>)> {
        let glanced = self.glanced.as_deref()?;
        let (length, beginning, by) = glanced.shared.as_ref()?;
        if *by != generation {
            return None;
        }
        let rest = text.strip_prefix(glanced.text.get(..*length)?)?;
        Some((beginning, rest, &glanced.decision))
    }

    /// Remembers a text that was decided without reading it; `look` says what is known of its beginning.
    pub(super) fn glance(
        &mut self,
        text: &[u8],
        generation: Generation,
        decision: &Arc<Decision>,
        look: impl FnOnce(&[u8]) -> Option<Beginning>,
    ) {
        let Some(glanced) = &mut self.glanced else {
            self.glanced = Some(Box::new(Glanced {
                text: text.to_vec(),
                shared: None,
                decision: Arc::clone(decision),
            }));
            return;
        };
        let length = shared(&glanced.text, text);
        glanced.shared = if length < WORTH_SHARING {
            None
        } else {
            look(&text[..length]).map(|beginning| (length, beginning, generation))
        };
        glanced.text.clear();
        glanced.text.extend_from_slice(text);
        glanced.decision = Arc::clone(decision);
    }
}
