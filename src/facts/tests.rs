//! The reducer's rules, for all facts in all orders.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Few values of each kind, so that facts meet.
fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let project = || prop_oneof![Just("p"), Just("q")].prop_map(str::to_owned);
    let of = ("[dx]", "[uv]", project()).prop_map(|(database, user, project)| WordOf {
        database,
        user,
        project,
    });
    let key = |id: &str| {
        Encryption::Kms(KmsKey {
            id: Some(id.into()),
            ..KmsKey::default()
        })
    };
    let encryption = prop_oneof![
        Just(None),
        Just(Some(Encryption::None)),
        Just(Some(Encryption::DefaultKey)),
        Just(Some(key("k"))),
        Just(Some(key("l"))),
    ];
    let what = prop_oneof![
        3 => (project(), encryption).prop_map(|(project, encryption)| What::Key { project, encryption }),
        2 => project().prop_map(|project| What::Lesson { project }),
        2 => proptest::option::of(project()).prop_map(|project| What::Forget { project }),
        3 => (of.clone(), 0..9_u64, vec((proptest::option::of("[st]"), "[ab]"), 0..3)).prop_map(
            |(of, first, relations)| What::Heard { of, first: Stamp(first), functions: relations.clone(), relations }
        ),
        2 => of.clone().prop_map(|of| What::Confirmed { of }),
        2 => of.prop_map(|of| What::TakenBack { of }),
        1 => "[dx]".prop_map(|database| What::CatalogChanged { database }),
    ];
    let fact =
        (what, 0..9_u64, prop_oneof![Just("one"), Just("two")]).prop_map(|(what, at, by)| Fact {
            upstream: "up".into(),
            at: Stamp(at),
            by: by.into(),
            what,
        });
    vec(fact, 0..24)
}

fn known<'f>(facts: impl IntoIterator<Item = &'f Fact>) -> Known {
    let mut known = Known::default();
    for fact in facts {
        known.apply(fact);
    }
    known
}

proptest! {
    #[test]
    fn order_and_duplicates_do_not_matter(
        (facts, shuffled) in facts().prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle())),
        again in 0..24_usize,
    ) {
        let once = known(&facts);
        let doubled = shuffled.iter().chain(shuffled.iter().take(again));
        prop_assert_eq!(&once, &known(doubled));
        // Each of them is known now, and says so.
        let mut twice = once.clone();
        for fact in &facts {
            prop_assert_eq!(twice.apply(fact), Outcome::Old);
        }
    }

    #[test]
    fn whoever_hears_of_it_in_parts_knows_the_same(facts in facts(), cut in 0..24_usize, horizon in 0..9_u64) {
        let (first, second) = facts.split_at(cut.min(facts.len()));
        prop_assert_eq!(known(&facts), known(second.iter().chain(first)));
        // What is too old is forgotten by whoever took it, and is as if it had never come.
        let mut pruned = known(&facts);
        pruned.forget_before(Stamp(horizon));
        let young = facts.iter().filter(|fact| fact.at >= Stamp(horizon));
        prop_assert_eq!(pruned, known(young));
    }

    #[test]
    fn the_newest_counts_and_what_is_forgotten_does_not(facts in facts()) {
        let known = known(&facts);
        for project in ["p", "q"] {
            let about = |what: &What| match what {
                What::Key { project: of, .. } | What::Lesson { project: of } => of == project,
                What::Forget { project: of } => of.as_deref().is_none_or(|of| of == project),
                _ => false,
            };
            let all: Vec<&Fact> = facts.iter().filter(|fact| about(&fact.what)).collect();
            let forgotten = all
                .iter()
                .filter(|fact| matches!(fact.what, What::Forget { .. }))
                .map(|fact| fact.at)
                .max();
            prop_assert_eq!(known.forgotten(project), forgotten);
            let counts = |fact: &&&Fact| Some(fact.at) > forgotten;
            let said = all.iter().filter(counts).filter_map(|fact| match &fact.what {
                What::Key { encryption, .. } => Some((fact.at, encryption)),
                _ => None,
            });
            let lesson = all.iter().filter(counts).any(|fact| matches!(fact.what, What::Lesson { .. }));
            let held = known.project(project);
            match said.max() {
                Some((at, Some(encryption))) => {
                    let held = held.unwrap();
                    prop_assert_eq!((held.at, held.encryption, held.origin), (at, Some(encryption), Origin::Cloud));
                }
                _ if lesson => prop_assert_eq!(held.unwrap().origin, Origin::Learned),
                _ => prop_assert_eq!(held, None),
            }
        }
    }

    #[test]
    fn a_word_counts_until_it_is_taken_back(facts in facts()) {
        let known = known(&facts);
        for database in ["d", "x"] {
            for user in ["u", "v"] {
                let of = WordOf { database: database.into(), user: user.into(), project: "p".into() };
                let newest = |is: fn(&What) -> Option<&WordOf>| {
                    facts.iter().filter(|fact| is(&fact.what) == Some(&of)).map(|fact| fact.at).max()
                };
                let heard = newest(|what| match what { What::Heard { of, .. } => Some(of), _ => None });
                let confirmed = newest(|what| match what { What::Confirmed { of } => Some(of), _ => None });
                let taken = newest(|what| match what { What::TakenBack { of } => Some(of), _ => None });
                let word = known.word(&of);
                prop_assert_eq!(word.is_some(), heard > taken);
                prop_assert_eq!(word.is_some_and(Word::is_confirmed), heard > taken && confirmed > taken);
            }
        }
    }

    #[test]
    fn a_fact_is_the_same_behind_its_form(facts in facts()) {
        for fact in facts {
            let form = serde_json::to_string(&fact).unwrap();
            prop_assert_eq!(serde_json::from_str::<Fact>(&form).unwrap(), fact, "{}", form);
        }
    }
}

#[test]
fn the_outcome_says_whether_another_answer_is_given() {
    let by: Arc<str> = "one".into();
    let key = |encryption| What::Key {
        project: "p".into(),
        encryption: Some(encryption),
    };
    let forget = What::Forget { project: None };
    let mut project = Project::default();
    let mut apply = |what: &What, at| project.apply(what, Stamp(at), &by);
    assert_eq!(apply(&key(Encryption::None), 5), Outcome::Changed);
    assert_eq!(apply(&key(Encryption::None), 6), Outcome::Renewed);
    assert_eq!(apply(&key(Encryption::DefaultKey), 4), Outcome::Old);
    assert_eq!(apply(&forget, 4), Outcome::Renewed);
    assert_eq!(apply(&forget, 6), Outcome::Changed);
    assert_eq!(apply(&key(Encryption::DefaultKey), 5), Outcome::Old);
    assert_eq!(apply(&key(Encryption::DefaultKey), 7), Outcome::Changed);
}

#[test]
fn a_day_is_a_day_by_the_facts_own_time() {
    let day = Duration::from_hours(24);
    let fact = Fact {
        upstream: "up".into(),
        at: Stamp(1_000_000_000_000),
        by: "one".into(),
        what: What::Lesson {
            project: "p".into(),
        },
    };
    let at = fact.at;
    assert_eq!(fact.in_time(at, day), Ok(()));
    assert_eq!(fact.in_time(at.plus(day), day), Ok(()));
    let later = at.plus(day).after(at.plus(day));
    assert_eq!(fact.in_time(later, day), Err(Refused::Old));
    assert_eq!(fact.in_time(at.less(SKEW), day), Ok(()));
    let earlier = at.less(SKEW + Duration::from_millis(1));
    assert_eq!(fact.in_time(earlier, day), Err(Refused::Future));
}
