//! The house: nothing imports from a floor above its own, and no files form a circle.
//!
//! Read is every file under `src` but the tests: the `use` lines, and in the code the paths that begin
//! with `crate::`, `super::`, `self::` or the name of a module that the file declares. An arrow goes
//! from the file to the one that *defines* what is named; a name that a module only hands on
//! (`pub use child::Name`) leads through it to the child, and handing on is itself no arrow, unless the
//! module uses the name.
//!
//! A module and its children (`mod.rs`, or `x.rs` beside `x/`) are files like any others. So a module
//! either holds what its children share, and takes nothing from them; or it puts its children
//! together, and they take nothing from it. What neither can do is both. Only `impl` blocks escape
//! this: a type may have methods in a child's file that its own file calls, for they have no path.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

mod page;
mod source;
mod supply;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

use source::{Arrow, House};

/// The floors, from the top. A room may import from the floors below its own, never from another room
/// of its own.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["server"],
    &["console"],
    &["session"],
    &["core", "upstream"],
    &["advice"],
    &["protection"],
    &["keys"],
    &["fleet"],
    &["facts"],
    &["catalog", "traces"],
    &["sql", "observe", "net"],
    &["config", "wire"],
    &["chance", "glob", "simulator"],
];

/// Rooms whose files may still form circles, each with the reason. One that has none any more is to be
/// struck from here.
const CIRCLES: &[(&str, &str)] = &[];

static HOUSE: LazyLock<House> = LazyLock::new(House::of_this_crate);

/// What is wrong with an arrow between rooms, if anything is.
fn wrong_way(arrow: &Arrow) -> Option<String> {
    let floor = |room: &str| {
        FLOORS
            .iter()
            .rposition(|floor| floor.contains(&room))
            .ok_or_else(|| {
                format!("the room `{room}` stands on no floor: give it one in tests/house")
            })
    };
    let (from, to) = (arrow.room_from(), arrow.room_to());
    if from == to || to == "lib" {
        return None;
    }
    let (here, there) = match (floor(from), floor(to)) {
        (Ok(here), Ok(there)) => (here, there),
        (Err(why), _) | (_, Err(why)) => return Some(why),
    };
    let place = match there.cmp(&here) {
        std::cmp::Ordering::Greater => return None,
        std::cmp::Ordering::Equal => "beside",
        std::cmp::Ordering::Less => "above",
    };
    Some(format!(
        "{arrow}, but `{to}` stands {place} `{from}` in the house: what both need belongs to `{from}` \
         or below it"
    ))
}

/// Circles of files, the shortest first: the arrows of each in their order. Circles that share an arrow
/// are told as one, the shortest of them, since mending that one may mend all.
fn circles(house: &House) -> Vec<Vec<&Arrow>> {
    let mut from: BTreeMap<&str, Vec<&Arrow>> = BTreeMap::new();
    for arrow in &house.arrows {
        from.entry(&arrow.from).or_default().push(arrow);
    }
    let mut circles: Vec<Vec<&Arrow>> = Vec::new();
    for first in &house.arrows {
        // Breadth first from the arrow's head back to its tail.
        let mut came: BTreeMap<&str, Option<&Arrow>> = BTreeMap::from([(&*first.to, None)]);
        let mut queue = VecDeque::from([&*first.to]);
        while let Some(file) = queue.pop_front() {
            for arrow in from.get(file).into_iter().flatten() {
                if !came.contains_key(&*arrow.to) {
                    came.insert(&arrow.to, Some(arrow));
                    queue.push_back(&arrow.to);
                }
            }
        }
        let mut circle = VecDeque::new();
        let mut at = &*first.from;
        while let Some(Some(arrow)) = came.get(at) {
            circle.push_front(*arrow);
            at = &arrow.from;
        }
        if at != first.to {
            continue;
        }
        circle.push_front(first);
        circles.push(circle.into());
    }
    circles.sort_by_key(Vec::len);
    let mut told: BTreeSet<(&str, &str)> = BTreeSet::new();
    circles.retain(|circle| {
        let arrows = circle.iter().map(|arrow| (&*arrow.from, &*arrow.to));
        let arrows: Vec<_> = arrows.collect();
        let is_new = arrows.iter().all(|arrow| !told.contains(arrow));
        if is_new {
            told.extend(arrows);
        }
        is_new
    });
    circles
}

/// True if all files of a circle are in this room.
fn is_within(circle: &[&Arrow], room: &str) -> bool {
    circle.iter().all(|arrow| arrow.room_from() == room)
}

fn told(circle: &[&Arrow]) -> String {
    let arrows: Vec<String> = circle.iter().map(ToString::to_string).collect();
    format!(
        "{} files form a circle: {}. The idea that ties them belongs into a file below them.",
        circle.len(),
        arrows.join("; ")
    )
}

#[test]
fn nothing_imports_from_above() {
    let wrong: Vec<String> = HOUSE.arrows.iter().filter_map(wrong_way).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_files_form_a_circle() {
    let circles = circles(&HOUSE);
    let allowed = |circle: &[&Arrow]| CIRCLES.iter().any(|(room, _)| is_within(circle, room));
    let wrong: Vec<String> = circles
        .iter()
        .filter(|circle| !allowed(circle))
        .map(|circle| told(circle))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    for (room, _) in CIRCLES {
        assert!(
            circles.iter().any(|circle| is_within(circle, room)),
            "`{room}` has no circle of files any more: strike it from CIRCLES in tests/house"
        );
    }
}

#[test]
fn every_room_that_has_a_floor_is_there() {
    for room in FLOORS.iter().copied().flatten() {
        assert!(
            HOUSE.modules().any(|module| module == *room),
            "there is no room `{room}`: strike it from FLOORS in tests/house"
        );
    }
}

/// What is said of the files, each given by its path under `src` and its text.
fn said_of(files: &[(&str, &str)]) -> Vec<String> {
    let house = House::of(files.iter().map(|(path, text)| (*path, *text)));
    let mut said: Vec<String> = house.arrows.iter().filter_map(wrong_way).collect();
    said.extend(circles(&house).iter().map(|circle| told(circle)));
    said
}

#[test]
fn an_arrow_that_goes_up_is_told_with_its_place() {
    let said = said_of(&[
        ("sql/mod.rs", "mod token;\npub use token::Token;\n"),
        (
            "sql/token.rs",
            "use std::fmt;\n\nuse crate::protection::{\n    Reason,\n    Source,\n};\npub struct Token;\n",
        ),
        (
            "protection/mod.rs",
            "pub enum Reason {}\npub enum Source {}\nuse crate::sql::Token;\n",
        ),
    ]);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(
        said[0].starts_with("src/sql/token.rs:3 takes crate::protection::Reason from src/protection/mod.rs, but `protection` stands above `sql`"),
        "{said:#?}"
    );
    assert!(said[2].starts_with("2 files form a circle"), "{said:#?}");
}

#[test]
fn a_circle_is_told_with_every_arrow() {
    let said = said_of(&[
        ("net/mod.rs", "mod a;\nmod b;\nmod c;\n"),
        ("net/a.rs", "// use super::c::C;\nuse super::b::B;\n"),
        (
            "net/b.rs",
            "const C: &str = \"crate::net::a\";\nfn f() { super::c::g() }\n",
        ),
        (
            "net/c.rs",
            "mod inner { use super::super::a::A; }\npub fn g() {}\n",
        ),
    ]);
    assert_eq!(
        said,
        [
            "3 files form a circle: src/net/a.rs:2 takes super::b::B from src/net/b.rs; src/net/b.rs:2 \
             takes super::c::g from src/net/c.rs; src/net/c.rs:1 takes super::super::a::A from \
             src/net/a.rs. The idea that ties them belongs into a file below them."
        ]
    );
}

#[test]
fn a_module_may_hand_on_hold_or_put_together_but_not_both() {
    let child = (
        "net/child.rs",
        "use super::Shared;\npub struct Child(Shared);\n",
    );
    let hands_on = "mod child;\npub use child::Child;\npub struct Shared;\n";
    assert_eq!(said_of(&[("net/mod.rs", hands_on), child]), [""; 0]);
    let both =
        "mod child;\npub use child::Child;\npub struct Shared;\nfn make() -> Child { todo!() }\n";
    assert_eq!(said_of(&[("net/mod.rs", both), child]).len(), 1);
}

#[test]
fn tests_may_take_what_they_like() {
    let house = "#[cfg(test)]\nmod fake;\npub struct Net;\n#[cfg(test)]\nmod tests {\n    use crate::cli::run;\n}\n";
    let fake = "use crate::server::run;\n";
    let said = said_of(&[
        ("net/mod.rs", house),
        ("net/fake.rs", fake),
        ("cli.rs", "pub fn run() {}\n"),
        ("server.rs", "pub fn run() {}\n"),
    ]);
    assert_eq!(said, [""; 0]);
}
