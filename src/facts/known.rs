//! The reducer: what is known once a fact is known, too.
//!
//! Each thing of which facts speak has a few registers, and a register holds the newest that was said.
//! "Newest" is a total order, so that a register does not depend on the order in which facts come, nor
//! on how often; what the registers come to is worked out when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fact::{Fact, What, WordOf};
use super::record::{Encryption, Origin};
use super::stamp::Stamp;

/// What a fact did to what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was known, or something newer is.
    Old,
    /// It is newer than what was known, and says the same.
    Renewed,
    /// Another answer is given from now on.
    Changed,
}

/// The newest that was said of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Register<T>(Option<Said<T>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Said<T> {
    at: Stamp,
    what: T,
    by: Arc<str>,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Ord> Register<T> {
    /// False: it is not newer than what was said before.
    fn take(&mut self, at: Stamp, by: &Arc<str>, what: T) -> bool {
        if let Some(said) = &mut self.0
            && (said.at, &said.what) == (at, &what)
        {
            // The same, whoever says it.
            said.by = Arc::clone(by).max(Arc::clone(&said.by));
            return false;
        }
        let newer = self
            .0
            .as_ref()
            .is_none_or(|said| (said.at, &said.what) < (at, &what));
        if newer {
            let by = Arc::clone(by);
            self.0 = Some(Said { at, what, by });
        }
        newer
    }

    fn at(&self) -> Option<Stamp> {
        self.0.as_ref().map(|said| said.at)
    }

    /// What was said after a time.
    fn since(&self, forgotten: Option<Stamp>) -> Option<&Said<T>> {
        self.0.as_ref().filter(|said| Some(said.at) > forgotten)
    }

    fn forget_before(&mut self, horizon: Stamp) {
        self.0.take_if(|said| said.at < horizon);
    }
}

/// What is known of one MaxCompute project's encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    said: Register<Option<Encryption>>,
    lesson: Register<()>,
    forgotten: Register<()>,
}

/// What the facts about a project come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'p> {
    /// How it is encrypted; `None`: by a key that nobody has named.
    pub encryption: Option<&'p Encryption>,
    /// Who says so.
    pub origin: Origin,
    /// When it was found.
    pub at: Stamp,
}

impl Project {
    /// Takes in a fact about this project. One about something else changes nothing.
    pub fn apply(&mut self, what: &What, at: Stamp, by: &Arc<str>) -> Outcome {
        let before = self.meaning();
        let newer = match what {
            What::Key { encryption, .. } => self.said.take(at, by, encryption.clone()),
            What::Lesson { .. } => self.lesson.take(at, by, ()),
            What::Forget { .. } => self.forgotten.take(at, by, ()),
            _ => false,
        };
        outcome(newer, || before != self.meaning())
    }

    /// What the facts come to, if what was found until `all_forgotten` does not count.
    pub fn holds(&self, all_forgotten: Option<Stamp>) -> Option<Held<'_>> {
        let forgotten = self.forgotten.at().max(all_forgotten);
        let said = self.said.since(forgotten).and_then(|said| {
            let encryption = Some(said.what.as_ref()?);
            Some(Held {
                encryption,
                origin: Origin::Cloud,
                at: said.at,
            })
        });
        said.or_else(|| {
            let lesson = self.lesson.since(forgotten)?;
            Some(Held {
                encryption: None,
                origin: Origin::Learned,
                at: lesson.at,
            })
        })
    }

    /// A provider's last word, and when that was, if what was found until `all_forgotten` does not
    /// count; `None` in it: nobody knows the project.
    pub fn last_word(&self, all_forgotten: Option<Stamp>) -> Option<(Stamp, Option<&Encryption>)> {
        let forgotten = self.forgotten.at().max(all_forgotten);
        let said = self.said.since(forgotten)?;
        Some((said.at, said.what.as_ref()))
    }

    /// The time of the newest fact.
    pub fn newest(&self) -> Option<Stamp> {
        let all = [self.said.at(), self.lesson.at(), self.forgotten.at()];
        all.into_iter().flatten().max()
    }

    /// Forgets the lesson if it is from before a time.
    pub fn end_lesson(&mut self, before: Stamp) {
        self.lesson.forget_before(before);
    }

    /// Forgets what is from before a time: nothing of that age is taken any more.
    pub fn forget_before(&mut self, horizon: Stamp) {
        self.said.forget_before(horizon);
        self.lesson.forget_before(horizon);
        self.forgotten.forget_before(horizon);
    }

    /// The facts that this is made of.
    pub fn facts(&self, project: &str) -> Vec<(What, Stamp, Arc<str>)> {
        let project = || project.to_owned();
        let said = self.said.0.as_ref().map(|said| {
            let encryption = said.what.clone();
            let project = project();
            (
                What::Key {
                    project,
                    encryption,
                },
                said.at,
                Arc::clone(&said.by),
            )
        });
        let lesson = self.lesson.0.as_ref().map(|said| {
            let what = What::Lesson { project: project() };
            (what, said.at, Arc::clone(&said.by))
        });
        let forgotten = self.forgotten.0.as_ref().map(|said| {
            let project = Some(project());
            (What::Forget { project }, said.at, Arc::clone(&said.by))
        });
        [said, lesson, forgotten].into_iter().flatten().collect()
    }

    fn meaning(&self) -> Option<(Option<Encryption>, Origin)> {
        let held = self.holds(None)?;
        Some((held.encryption.cloned(), held.origin))
    }
}

/// What one user has heard of one project, in one database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    heard: Register<Heard>,
    confirmed: Register<()>,
    taken_back: Register<()>,
}

/// What [`What::Heard`] says beside whose word it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heard {
    /// See [`What::Heard`].
    pub first: Stamp,
    /// See [`What::Heard`].
    pub relations: Vec<(Option<String>, String)>,
    /// See [`What::Heard`].
    pub functions: Vec<(Option<String>, String)>,
}

impl Word {
    /// Takes in a fact about this word. One about something else changes nothing.
    pub fn apply(&mut self, what: &What, at: Stamp, by: &Arc<str>) -> Outcome {
        let before = (self.heard().cloned(), self.is_confirmed());
        let newer = match what {
            What::Heard {
                first,
                relations,
                functions,
                ..
            } => {
                let heard = Heard {
                    first: *first,
                    relations: relations.clone(),
                    functions: functions.clone(),
                };
                self.heard.take(at, by, heard)
            }
            What::Confirmed { .. } => self.confirmed.take(at, by, ()),
            What::TakenBack { .. } => self.taken_back.take(at, by, ()),
            _ => false,
        };
        outcome(newer, || {
            before != (self.heard().cloned(), self.is_confirmed())
        })
    }

    /// What was heard, unless it was taken back since.
    pub fn heard(&self) -> Option<&Heard> {
        let heard = self.heard.since(self.taken_back.at())?;
        Some(&heard.what)
    }

    /// When it was heard last.
    pub fn heard_at(&self) -> Option<Stamp> {
        self.heard.at()
    }

    /// True if a second run has confirmed it, and nothing has taken it back since.
    pub fn is_confirmed(&self) -> bool {
        let is_confirmed = self.confirmed.since(self.taken_back.at()).is_some();
        is_confirmed && self.heard().is_some()
    }

    /// The time of the newest fact.
    pub fn newest(&self) -> Option<Stamp> {
        let all = [self.heard.at(), self.confirmed.at(), self.taken_back.at()];
        all.into_iter().flatten().max()
    }

    /// Forgets what is from before a time: nothing of that age is taken any more.
    pub fn forget_before(&mut self, horizon: Stamp) {
        self.heard.forget_before(horizon);
        self.confirmed.forget_before(horizon);
        self.taken_back.forget_before(horizon);
    }

    /// The facts that this is made of.
    pub fn facts(&self, of: &WordOf) -> Vec<(What, Stamp, Arc<str>)> {
        let heard = self.heard.0.as_ref().map(|said| {
            let what = What::Heard {
                of: of.clone(),
                first: said.what.first,
                relations: said.what.relations.clone(),
                functions: said.what.functions.clone(),
            };
            (what, said.at, Arc::clone(&said.by))
        });
        let confirmed = self.confirmed.0.as_ref().map(|said| {
            let what = What::Confirmed { of: of.clone() };
            (what, said.at, Arc::clone(&said.by))
        });
        let taken_back = self.taken_back.0.as_ref().map(|said| {
            let what = What::TakenBack { of: of.clone() };
            (what, said.at, Arc::clone(&said.by))
        });
        [heard, confirmed, taken_back]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn outcome(newer: bool, differs: impl FnOnce() -> bool) -> Outcome {
    match newer {
        false => Outcome::Old,
        true if differs() => Outcome::Changed,
        true => Outcome::Renewed,
    }
}

/// All that the facts about one upstream come to: what a store of them has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    projects: BTreeMap<String, Project>,
    all_forgotten: Register<()>,
    words: BTreeMap<WordOf, Word>,
    catalogs: BTreeMap<String, Register<()>>,
}

impl Known {
    /// Takes in a fact.
    pub fn apply(&mut self, fact: &Fact) -> Outcome {
        let (at, by) = (fact.at, &fact.by);
        match &fact.what {
            What::Key { project, .. }
            | What::Lesson { project }
            | What::Forget {
                project: Some(project),
            } => {
                let all_forgotten = self.all_forgotten.at();
                let known = self.projects.entry(project.clone()).or_default();
                let before = known.holds(all_forgotten).map(said);
                let outcome = known.apply(&fact.what, at, by);
                let differs = before != known.holds(all_forgotten).map(said);
                self::outcome(outcome != Outcome::Old, || differs)
            }
            What::Forget { project: None } => {
                let before = self.all_forgotten.at();
                let newer = self.all_forgotten.take(at, by, ());
                let mut held = self
                    .projects
                    .values()
                    .filter_map(|known| known.holds(before));
                outcome(newer, || held.any(|held| held.at <= at))
            }
            What::Heard { of, .. } | What::Confirmed { of } | What::TakenBack { of } => {
                let word = self.words.entry(of.clone()).or_default();
                word.apply(&fact.what, at, by)
            }
            What::CatalogChanged { database } => {
                let changed = self.catalogs.entry(database.clone()).or_default();
                outcome(changed.take(at, by, ()), || true)
            }
        }
    }

    /// What is known of a project.
    pub fn project(&self, project: &str) -> Option<Held<'_>> {
        self.projects.get(project)?.holds(self.all_forgotten.at())
    }

    /// A provider's last word on a project, and when that was; `None` in it: nobody knows the project.
    pub fn last_word(&self, project: &str) -> Option<(Stamp, Option<&Encryption>)> {
        let known = self.projects.get(project)?;
        known.last_word(self.all_forgotten.at())
    }

    /// What a user has heard of a project.
    pub fn word(&self, of: &WordOf) -> Option<&Word> {
        self.words.get(of).filter(|word| word.heard().is_some())
    }

    /// The last time at which what is known of a project was to be forgotten.
    pub fn forgotten(&self, project: &str) -> Option<Stamp> {
        let own = self.projects.get(project);
        own.and_then(|own| own.forgotten.at())
            .max(self.all_forgotten.at())
    }

    /// Of how many things it has facts.
    pub fn len(&self) -> usize {
        self.projects.len() + self.words.len() + self.catalogs.len()
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what is from before a time: nothing of that age is taken any more.
    pub fn forget_before(&mut self, horizon: Stamp) {
        self.all_forgotten.forget_before(horizon);
        self.projects.retain(|_, known| {
            known.forget_before(horizon);
            *known != Project::default()
        });
        self.words.retain(|_, known| {
            known.forget_before(horizon);
            *known != Word::default()
        });
        self.catalogs.retain(|_, known| {
            known.forget_before(horizon);
            known.0.is_some()
        });
    }
}

fn said(held: Held<'_>) -> (Option<Encryption>, Origin) {
    (held.encryption.cloned(), held.origin)
}
