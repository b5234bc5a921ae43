//! Who goes by what, and that lies push out no truth.

use super::*;
use crate::protection::{Lexing, NameContext, SessionNames};

const DAY: Duration = Duration::from_hours(24);

/// The catalogs have `orders` of project `sales`, `staff` of `hr`, and `plain`, which is none.
fn catalogs() -> Snapshot {
    Snapshot::builder("dw")
        .read()
        .foreign("public", "orders")
        .leads_to("public", "orders", ["sales"].into_iter())
        .foreign("public", "staff")
        .leads_to("public", "staff", ["hr"].into_iter())
        .build(1)
}

fn reads(snapshot: &Snapshot, lessons: &UserLessons, sql: &str) -> Option<String> {
    let names = SessionNames::new(NameContext::new("u", "public"));
    let decision = snapshot.decide_in(sql.as_bytes(), &names, Lexing::default());
    let reason = lessons.reason(&decision, snapshot)?;
    Some(format!("{} of {}", reason.relation, reason.project?))
}

fn projects(lessons: &Lessons) -> Vec<String> {
    let (believed, _) = lessons.believed();
    believed.into_iter().map(|lesson| lesson.project).collect()
}

#[tokio::test(start_paused = true)]
async fn one_users_word_counts_for_that_user() {
    let (lessons, catalogs) = (Lessons::default(), catalogs());
    let (ann, bob) = (lessons.of("ann"), lessons.of("bob"));
    assert_eq!(reads(&catalogs, &ann, "SELECT * FROM orders"), None);
    let version = ann.version();
    assert!(ann.hear("sales", None, &[], DAY));
    assert!(!ann.hear("sales", None, &[], DAY), "it is known");
    assert_ne!(ann.version(), version);
    assert_eq!(
        reads(&catalogs, &ann, "SELECT * FROM orders").as_deref(),
        Some("orders of sales")
    );
    assert_eq!(reads(&catalogs, &ann, "SELECT * FROM staff"), None);
    assert_eq!(reads(&catalogs, &ann, "SELECT * FROM plain"), None);
    assert_eq!(reads(&catalogs, &bob, "SELECT * FROM orders"), None);
    assert!(projects(&lessons).is_empty());
    // Another session of the same user has it, too; a day later nobody has.
    let again = lessons.of("ann");
    assert!(reads(&catalogs, &again, "SELECT * FROM public.orders").is_some());
    tokio::time::advance(DAY).await;
    assert_eq!(reads(&catalogs, &again, "SELECT * FROM orders"), None);
}

#[tokio::test]
async fn a_second_run_or_a_second_user_teaches_the_database() {
    let lessons = Lessons::default();
    let (ann, bob) = (lessons.of("ann"), lessons.of("bob"));
    ann.hear("sales", None, &[], DAY);
    ann.hear("hr", None, &[], DAY);
    assert!(ann.confirm("sales"));
    assert!(!ann.confirm("sales") && !ann.confirm("never_heard_of"));
    assert_eq!(projects(&lessons), ["sales"]);
    bob.hear("hr", None, &[], DAY);
    assert_eq!(projects(&lessons), ["hr", "sales"]);
    // Whoever takes a word back takes back his own.
    assert!(!bob.take_back("sales") && bob.take_back("hr"));
    assert_eq!(projects(&lessons), ["sales"]);
    assert!(ann.take_back("sales"));
    assert!(projects(&lessons).is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_witnesses_teach_every_database() {
    let (here, there) = (Lessons::default(), Lessons::default());
    let witnesses = Witnesses::default();
    let ann = here.of("ann");
    assert!(!witnesses.agree(&ann, "sales", DAY));
    assert!(
        !witnesses.agree(&there.of("ann"), "sales", DAY),
        "the same user"
    );
    assert!(
        !witnesses.agree(&there.of("bob"), "hr", DAY),
        "of another project"
    );
    assert!(witnesses.agree(&there.of("bob"), "sales", DAY));
    witnesses.take_back(&ann, "sales");
    assert!(!witnesses.agree(&there.of("bob"), "sales", DAY));
    tokio::time::advance(DAY).await;
    assert!(!witnesses.agree(&ann, "sales", DAY), "that was yesterday");
}

#[tokio::test]
async fn a_flood_of_lies_evicts_no_lesson() {
    let (lessons, catalogs) = (Lessons::default(), catalogs());
    let witnesses = Witnesses::default();
    let (ann, liar) = (lessons.of("ann"), lessons.of("mallory"));
    for user in [&ann, &liar] {
        user.hear("sales", None, &[], DAY);
        user.confirm("sales");
    }
    for lie in 0..31_500 {
        liar.hear(
            &format!("lie_{lie}"),
            Some(&(None, format!("t{lie}"))),
            &[],
            DAY,
        );
        witnesses.agree(&liar, &format!("lie_{lie}"), DAY);
    }
    assert_eq!(liar.words().len(), MAX_PER_USER);
    assert_eq!(projects(&lessons), ["sales"]);
    for user in [&ann, &liar] {
        assert!(reads(&catalogs, user, "SELECT * FROM orders").is_some());
    }
    assert!(!witnesses.agree(&ann, "sales", DAY));
    // The same from many users: those who come last have a word for themselves alone.
    for lie in 0..2_000 {
        let user = lessons.of(&format!("user_{lie}"));
        user.hear("hr", None, &[], DAY);
        user.confirm("hr");
        witnesses.agree(&user, "hr", DAY);
    }
    assert!(lessons.users().len() <= MAX_USERS);
    assert!(reads(&catalogs, &lessons.of("ann"), "SELECT * FROM orders").is_some());
    assert!(projects(&lessons).contains(&"sales".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn users_whose_words_have_ended_make_room_for_others() {
    let lessons = Lessons::default();
    for number in 0..MAX_USERS {
        let user = lessons.of(&format!("user_{number}"));
        user.hear("hr", None, &[], DAY);
        user.confirm("hr");
    }
    // While all of them count, whoever comes last has a word for each session alone.
    let late = lessons.of("late");
    late.hear("sales", None, &[], DAY);
    late.confirm("sales");
    assert_eq!(projects(&lessons), ["hr"]);
    tokio::time::advance(DAY).await;
    let next = lessons.of("next");
    next.hear("sales", None, &[], DAY);
    next.confirm("sales");
    assert_eq!(projects(&lessons), ["sales"]);
    assert!(Arc::ptr_eq(&next, &lessons.of("next")));
    assert_eq!(lessons.users().len(), 1);
}

#[tokio::test]
async fn while_nobody_has_read_the_catalogs_a_lesson_is_about_its_relation() {
    let (lessons, blind) = (Lessons::default(), Snapshot::builder("dw").blind().build(1));
    let ann = lessons.of("ann");
    ann.hear("sales", Some(&(None, "orders".into())), &[], DAY);
    assert!(reads(&blind, &ann, "SELECT * FROM orders").is_some());
    assert!(reads(&blind, &ann, "SELECT * FROM public.orders").is_some());
    assert_eq!(reads(&blind, &ann, "SELECT * FROM staff"), None);
    ann.confirm("sales");
    let (believed, _) = lessons.believed();
    assert_eq!(believed[0].relations, [(None, "orders".to_owned())]);
    // Once they have been read, they say what leads to the project, and nothing else does.
    let homonym = Snapshot::builder("dw")
        .read()
        .foreign("public", "orders")
        .leads_to("public", "orders", ["hr"].into_iter())
        .build(2);
    assert_eq!(reads(&homonym, &ann, "SELECT * FROM orders"), None);
}

#[tokio::test]
async fn a_function_that_hides_what_it_reads_is_known_by_its_failure() {
    let catalogs = Snapshot::builder("dw")
        .read()
        .foreign("public", "orders")
        .leads_to("public", "orders", ["sales"].into_iter())
        .may_run_text("public", "report")
        .may_run_text("public", "cleanup")
        .runs_no_text("public", "rounded", true)
        .build(1);
    let lessons = Lessons::default();
    let (ann, bob) = (lessons.of("ann"), lessons.of("bob"));
    let names = SessionNames::new(NameContext::new("u", "public"));
    let decide = |sql: &str| catalogs.decide_in(sql.as_bytes(), &names, Lexing::default());
    let failed = decide("SELECT rounded(n) FROM report('2026') AS n");
    assert_eq!(failed.opaque, [(None, "report".to_owned())]);
    assert!(ann.hear("sales", None, &failed.opaque, DAY));
    assert_eq!(
        reads(&catalogs, &ann, "CALL public.report(1)").as_deref(),
        Some("public.report of sales")
    );
    // Others of its kind are left alone, and so are other users.
    assert_eq!(reads(&catalogs, &ann, "SELECT cleanup(), rounded(1)"), None);
    assert_eq!(reads(&catalogs, &bob, "SELECT report()"), None);
    // One more for the same project.
    assert!(!ann.hear("sales", None, &decide("SELECT cleanup()").opaque, DAY));
    assert!(reads(&catalogs, &ann, "SELECT cleanup()").is_some());
    ann.take_back("sales");
    assert_eq!(reads(&catalogs, &ann, "SELECT report()"), None);
}
