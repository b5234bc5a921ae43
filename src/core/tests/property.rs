//! Random client programs, cut into random pieces, with the server ahead or behind: what the client
//! sees is what it would see of a server on which the route had been right from the start.

use proptest::prelude::*;

use super::model::{Backend, transcript};
use super::trio::msg::{
    bind, close, copy_data, copy_done, describe, execute, extended, parse, query, sync,
};
use super::trio::{FakeWorld, Trio, known, policy, unknown};
use crate::advice::NotRetried;
use crate::core::{Event, Policy};
use crate::wire::Header;

/// What a client sends in one go, readable where a test fails.
#[derive(Clone)]
struct Sent(Vec<u8>);

impl std::fmt::Debug for Sent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0.as_slice();
        while let Ok(Some(header)) = Header::read(rest) {
            let body = String::from_utf8_lossy(&rest[5..header.frame]);
            write!(formatter, "{}{body:?} ", char::from(header.tag))?;
            rest = &rest[header.frame..];
        }
        Ok(())
    }
}

/// One thing that a client sends.
fn step() -> impl Strategy<Value = Sent> {
    message().prop_map(Sent)
}

/// Encrypted, if it was parsed while `standard_conforming_strings` was off.
const ESCAPED: &str = r"\'";

/// Two statements in one Query. Not an end of a transaction in front of an encrypted read: a SET
/// in front of both would be undone with the transaction, and between them none can be put.
fn two(first: &str, second: &str) -> String {
    let ends = matches!(first, "commit" | "rollback" | "rollback to");
    let executes = |text: &str| text.starts_with("execute");
    let reads = |text: &str| {
        text.starts_with("enc")
            || executes(text)
            || matches!(text, "half" | "mine" | "take" | "hold d enc 2" | ESCAPED)
    };
    // A text that itself sets the route is left alone, and what is executed by a name may do that.
    let sets = [first, second].contains(&"set nonsense")
        || executes(first) && reads(second)
        || executes(second) && reads(first);
    if sets || ends && reads(second) {
        first.to_owned()
    } else {
        format!("{first}; {second}")
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let text = || {
        prop::sample::select(vec![
            "enc",
            "enc 3",
            "half",
            "plain",
            "fail",
            "write",
            "take",
            "take",
            "begin",
            "commit",
            "rollback",
            "savepoint",
            "rollback to",
            "",
            "vacuum",
            "declare c enc 3",
            "hold d enc 2",
            "open",
            "fetch c 2",
            "moody",
            "warn",
            "bold",
            "faint",
            "path ext",
            "path pub",
            "mine",
            "mine",
            "quotes off",
            "quotes on",
            ESCAPED,
            ESCAPED,
            "prepare a enc 3",
            "prepare a mine",
            "prepare b write",
            "prepare b take",
            "execute a",
            "execute a",
            "execute b",
            "set nonsense",
        ])
    };
    let name = || prop::sample::select(vec!["", "a", "b"]);
    prop_oneof![
        4 => text().prop_map(query),
        1 => (text(), text()).prop_map(|(a, b)| query(&two(a, b))),
        4 => text().prop_map(|text| [extended(text), sync()].concat()),
        2 => text().prop_map(extended),
        2 => (name(), text()).prop_map(|(name, text)| parse(name, text)),
        2 => (name(), name()).prop_map(|(portal, name)| bind(portal, name)),
        2 => (name(), 0..3_u32).prop_map(|(portal, rows)| execute(portal, rows)),
        1 => (prop::sample::select(vec!['S', 'P']), name()).prop_map(|(kind, name)| describe(kind, name)),
        1 => (prop::sample::select(vec!['S', 'P']), name()).prop_map(|(kind, name)| close(kind, name)),
        3 => Just(sync()),
        1 => Just(query("discard all")),
    ]
}

/// Cycles that only read and change no setting (a second run behind a COMMIT would meet what the first
/// one has set), of either protocol; or of the extended one, and some without their end.
fn reading_program() -> impl Strategy<Value = Vec<Sent>> {
    let whole = prop::collection::vec(reading_cycle(0..7), 1..12);
    let extended = prop::collection::vec(reading_cycle(2..9), 1..12);
    // What is executed by a name that nobody has seen being prepared may write.
    let prepared = |mut program: Vec<Sent>| {
        let first = ["prepare a enc 3", "prepare b plain"].map(|text| Sent(query(text)));
        program.splice(0..0, first);
        program
    };
    prop_oneof![whole, extended].prop_map(prepared)
}

fn reading_cycle(forms: std::ops::Range<u32>) -> impl Strategy<Value = Sent> {
    let text = prop::sample::select(vec![
        "enc",
        "enc 3",
        "plain",
        "begin",
        "commit",
        "rollback",
        "savepoint",
        "declare c enc 3",
        "warn",
        "bold",
        "faint",
        "open",
        ESCAPED,
        "execute a",
        "execute b",
        PREPARE_AND_EXECUTE,
    ]);
    (text, forms).prop_map(|(text, form)| {
        let texts: &[&str] = match text {
            PREPARE_AND_EXECUTE => &["prepare c enc 3", "execute c"],
            _ => &[text],
        };
        let send = |text: &&str| match form {
            0..2 => query(text),
            7.. => extended(text),
            _ => [extended(text), sync()].concat(),
        };
        Sent(texts.iter().flat_map(send).collect())
    })
}

/// One after the other, in cycles of their own.
const PREPARE_AND_EXECUTE: &str = "prepare and execute";

/// What moves next: a piece from the client of so many bytes, the server, or a piece from it.
#[derive(Debug, Clone, Copy)]
enum Move {
    Client(usize),
    Server,
    Back(usize),
    All,
    /// What is known changes: a lesson comes, or is forgotten.
    Know(bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let piece = || prop_oneof![Just(1_usize), 1..40_usize, Just(usize::MAX)];
    let one = prop_oneof![
        3 => piece().prop_map(Move::Client),
        2 => Just(Move::Server),
        2 => piece().prop_map(Move::Back),
        1 => Just(Move::All),
    ];
    prop::collection::vec(one, 1..60)
}

/// The same, while lessons come and go.
fn unsteady_moves() -> impl Strategy<Value = Vec<Move>> {
    let piece = || prop_oneof![Just(1_usize), 1..40_usize, Just(usize::MAX)];
    let one = prop_oneof![
        3 => piece().prop_map(Move::Client),
        2 => Just(Move::Server),
        2 => piece().prop_map(Move::Back),
        1 => Just(Move::All),
        2 => any::<bool>().prop_map(Move::Know),
    ];
    prop::collection::vec(one, 1..60)
}

fn ideal(program: &[Sent]) -> Vec<String> {
    let mut backend = ideal_backend(program);
    transcript(&backend.take())
}

fn ideal_backend(program: &[Sent]) -> Backend {
    let mut backend = Backend::new(true);
    for sent in program {
        backend.send(&sent.0);
    }
    backend.send(&sync());
    while backend.step() {}
    backend
}

/// Runs a program with everything delayed as `moves` says.
fn through(trio: &mut Trio, program: &[Sent], moves: &[Move]) -> Vec<String> {
    let mut moves = moves.iter().cycle();
    for sent in program {
        trio.client(&sent.0);
        for _ in 0..3 {
            match moves.next().copied().unwrap_or(Move::All) {
                Move::Client(count) => {
                    trio.frontend(count);
                }
                Move::Server => {
                    trio.server();
                }
                Move::Back(count) => {
                    trio.backward(count);
                }
                Move::All => trio.settle(),
                Move::Know(known) => {
                    trio.world.known = known;
                    trio.world.generation += 1;
                }
            }
        }
    }
    trio.client(&sync());
    trio.settle();
    trio.seen()
}

fn check(
    program: &[Sent],
    moves: &[Move],
    policy: Policy,
    world: FakeWorld,
) -> Result<(), TestCaseError> {
    check_trio(program, moves, Trio::new(policy, world))
}

fn check_trio(program: &[Sent], moves: &[Move], mut trio: Trio) -> Result<(), TestCaseError> {
    let retries = trio.retries;
    let seen = through(&mut trio, program, moves);
    let expected = ideal(program);
    prop_assert!(
        !trio.world.ever_was_set.get(),
        "the route is said to have been set where it was not: {:?}",
        trio.events
    );
    // Where nothing could be put in front, or run again, the error comes with its reason; the rest
    // of such a program differs by what the error did to its transaction.
    let explained = trio
        .events
        .iter()
        .any(|event| matches!(event, Event::ErrorRewritten { .. }));
    if explained {
        let missed = trio.core.tally().rare.unwrap_or_default().not_steered > 0;
        prop_assert!(
            missed || retries,
            "an error that nothing explains: {:?}",
            trio.events
        );
        let same = seen
            .iter()
            .zip(&expected)
            .take_while(|(a, b)| a == b)
            .count();
        prop_assert_eq!(
            seen.get(same).map(String::as_str),
            Some("E XX000"),
            "{:?}",
            seen
        );
        return Ok(());
    }
    prop_assert_eq!(seen, expected);
    // What writes has written once, however often it ran.
    prop_assert_eq!(trio.backend.taken, ideal_backend(program).taken);
    Ok(())
}

/// A server that chooses the engine as it plans, and keeps what it has planned.
fn planning(policy: Policy, world: FakeWorld) -> Trio {
    let mut trio = Trio::new(policy, world);
    trio.backend.plans_choose = true;
    trio
}

/// 3,000 cases, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 3000;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn known_tables_read_as_if_the_route_had_always_been_right(
        program in prop::collection::vec(step(), 1..12),
        moves in moves(),
    ) {
        check(&program, &moves, policy(), known())?;
    }

    #[test]
    fn statement_scope_too(
        program in prop::collection::vec(step(), 1..12),
        moves in moves(),
    ) {
        let policy = Policy { per_statement: true, ..policy() };
        check(&program, &moves, policy, known())?;
    }

    #[test]
    fn where_the_engine_is_chosen_at_planning_too(
        program in prop::collection::vec(step(), 1..12),
        steady in moves(),
        unsteady in unsteady_moves(),
        per_statement in any::<bool>(),
        retries in any::<bool>(),
    ) {
        let policy = Policy {
            per_statement,
            retry_buffer: retries.then_some(1 << 16),
            ..policy()
        };
        let moves = if retries { unsteady } else { steady };
        let world = FakeWorld { replans: Some(true), ..known() };
        check_trio(&program, &moves, planning(policy, world))?;
    }

    #[test]
    fn what_only_reads_never_shows_an_error_there_either(
        program in reading_program(),
        moves in moves(),
        replans in prop::option::of(Just(true)),
    ) {
        let policy = Policy { retry_buffer: Some(1 << 16), ..policy() };
        let mut trio = planning(policy, FakeWorld { replans, ..unknown() });
        let seen = through(&mut trio, &program, &moves);
        if trio.last_refusal() != Some(NotRetried::CycleNotComplete) {
            prop_assert_eq!(seen, ideal(&program), "{:?}", trio.events);
        }
    }

    #[test]
    fn what_is_only_observed_passes_as_it_came(
        program in prop::collection::vec(step(), 1..12),
        moves in unsteady_moves(),
        known in any::<bool>(),
        proven in any::<bool>(),
        per_statement in any::<bool>(),
    ) {
        let policy = Policy { observe: true, per_statement, ..policy() };
        let world = FakeWorld { known, proven, ..unknown() };
        let mut trio = Trio::new(policy, world);
        let seen = through(&mut trio, &program, &moves);
        let sent: Vec<u8> = program.iter().flat_map(|sent| sent.0.clone()).chain(sync()).collect();
        prop_assert_eq!(&trio.to_server, &sent);
        let mut direct = Backend::new(false);
        for sent in &program {
            direct.send(&sent.0);
        }
        direct.send(&sync());
        while direct.step() {}
        prop_assert_eq!(seen, transcript(&direct.take()));
        let said = trio.events.iter().all(|event| {
            matches!(
                event,
                Event::WouldSteer(_) | Event::WouldRewrite { .. } | Event::ClientOwnsRoute
            )
        });
        prop_assert!(said, "{:?}", trio.events);
    }

    #[test]
    fn unknown_tables_are_run_again_or_explained(
        program in prop::collection::vec(step(), 1..12),
        moves in moves(),
    ) {
        let policy = Policy { retry_buffer: Some(1 << 16), ..policy() };
        check(&program, &moves, policy, unknown())?;
    }

    #[test]
    fn lessons_that_come_and_go_are_used_or_explained(
        program in prop::collection::vec(step(), 1..12),
        moves in unsteady_moves(),
    ) {
        let policy = Policy { retry_buffer: Some(1 << 16), ..policy() };
        check(&program, &moves, policy, unknown())?;
    }

    #[test]
    fn what_only_reads_never_shows_an_error(
        program in reading_program(),
        moves in moves(),
    ) {
        let policy = Policy { retry_buffer: Some(1 << 16), ..policy() };
        let mut trio = Trio::new(policy, unknown());
        let seen = through(&mut trio, &program, &moves);
        // The error came in the middle of a message.
        if trio.last_refusal() != Some(NotRetried::CycleNotComplete) {
            prop_assert_eq!(seen, ideal(&program), "{:?}", trio.events);
        }
    }

    #[test]
    fn nobody_can_tell_which_way_a_cycle_took(
        program in prop::collection::vec(step(), 1..12),
        moves in unsteady_moves(),
        known in any::<bool>(),
        per_statement in any::<bool>(),
        enforce in any::<bool>(),
        retries in any::<bool>(),
    ) {
        let retry_buffer = retries.then_some(1 << 16);
        let policy = Policy { per_statement, enforce, retry_buffer, ..policy() };
        let world = FakeWorld { known, ..unknown() };
        let [short, walked] = [false, true].map(|walks_all| {
            let mut trio = Trio::new(policy.clone(), world.clone());
            trio.core.walks_all(walks_all);
            let seen = through(&mut trio, &program, &moves);
            let tally = *trio.core.tally();
            (seen, trio.to_server, trio.events, tally, trio.core.steering())
        });
        prop_assert_eq!(short, walked);
    }

    #[test]
    fn a_user_not_proven_yet_never_loses_a_transaction(
        program in prop::collection::vec(step(), 1..12),
        moves in moves(),
    ) {
        let world = FakeWorld { proven: false, ..known() };
        let mut trio = Trio::new(policy(), world);
        trio.backend.refuse_set();
        let seen = through(&mut trio, &program, &moves);
        let aborted = trio.events.iter().any(|event| {
            matches!(event, Event::SetFailed { aborted_transaction: true, .. })
        });
        prop_assert!(!aborted, "{:?}", seen);
    }
}

#[test]
fn copy_within_random_neighbours() {
    let mut trio = Trio::new(policy(), known());
    for _ in 0..3 {
        trio.exchange(&[extended("copyin"), sync()].concat());
        trio.exchange(&[copy_data("x"), copy_done(), sync()].concat());
        assert_eq!(
            trio.exchange(&query("enc")),
            ["T", "D row 0", "C SELECT 1", "Z I"]
        );
    }
}
