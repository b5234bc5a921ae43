//! The snapshot file: what a restart finds in it, and what it makes of others' files.

use crate::keys::KeyState;

use super::*;

/// A cache that keeps its records in `path`, of `upstream`, with the wall clock at `wall`.
fn kept(path: &std::path::Path, upstream: &str, wall: Duration) -> Fixture {
    let provider = Arc::new(Scripted::default());
    provider.says("sales", Some(kms()));
    provider.says("hr", Some(Encryption::DefaultKey));
    let clock = Arc::clone(&provider.clock);
    clock.forward(wall);
    let settings = Keys {
        ttl: 24 * HOUR,
        negative_ttl: Duration::from_mins(1),
        capacity: 100,
        snapshot: Some(path.to_owned()),
        cloud: None,
    };
    let cache = KeyCache::new(settings, provider.clone(), clock.clone(), Handle::current());
    cache.keep(upstream.into());
    Fixture {
        cache,
        provider,
        clock,
    }
}

/// Waits for the file to hold what `met` looks for.
async fn written(path: &std::path::Path, met: impl Fn(&str) -> bool) {
    for _ in 0..400 {
        if std::fs::read_to_string(path).is_ok_and(|text| met(&text)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not written within 4 s");
}

/// A hundred days: the manual wall clock starts in 1970, and nothing is older than that.
const LATE: Duration = Duration::from_hours(2400);

#[tokio::test]
async fn after_a_restart_nothing_fresh_is_looked_up() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let first = kept(&path, "holo:80", LATE);
    *first.provider.answers.lock().unwrap() = HashMap::new();
    let full = KmsKey {
        id: Some("key-1".into()),
        algorithm: Some("AES256".into()),
        state: KeyState::PendingDeletion,
        origin: Some("EXTERNAL".into()),
        material_expires: Some(SystemTime::UNIX_EPOCH + 2 * LATE),
        deletion: Some(SystemTime::UNIX_EPOCH + 3 * LATE),
    };
    let origin = Arc::clone(&first.provider);
    origin.says("sales", Some(Encryption::Kms(full.clone())));
    origin.says("hr", Some(Encryption::DefaultKey));
    *origin.looked_up.lock().unwrap() = Some(SystemTime::UNIX_EPOCH + LATE);
    first.encryption("sales").await;
    first.encryption("hr").await;
    first.cache.learn("taught");
    written(&path, |text| text.contains("hr") && text.contains("taught")).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!path.with_extension("json.new").exists());

    let second = kept(&path, "holo:80", LATE + 20 * HOUR);
    assert_eq!(
        second.encryption("sales").await,
        Some(Encryption::Kms(full))
    );
    assert_eq!(second.encryption("hr").await, Some(Encryption::DefaultKey));
    assert_eq!(second.provider.lookups(), 0, "both are fresh");
    assert_eq!(second.encryption("taught").await, Some(kms()));
    let listed = second.cache.list();
    let hr = listed.iter().find(|l| l.record.project == "hr").unwrap();
    assert_eq!(hr.age, 20 * HOUR);
    assert_eq!(hr.record.origin, Origin::Cloud);
    let taught = listed.iter().find(|l| l.record.project == "taught");
    assert_eq!(taught.unwrap().record.origin, Origin::Learned);

    // A day later it is looked up first, and serves if that fails.
    let third = kept(&path, "holo:80", LATE + 30 * HOUR);
    third.provider.fails(Some("away"));
    assert_eq!(third.encryption("hr").await, Some(Encryption::DefaultKey));
    assert_eq!(third.provider.lookups(), 1);
    assert!(third.cache.list().iter().any(|listed| listed.stale));

    // The clock was put back by days: what is known stays in use, and is looked up in the background.
    let fourth = kept(&path, "holo:80", 28 * 72 * HOUR);
    assert_eq!(fourth.encryption("hr").await, Some(Encryption::DefaultKey));
    fourth.settle().await;
    assert_eq!(fourth.provider.lookups(), 1);
}

#[tokio::test]
async fn a_corrupt_or_foreign_file_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let aside = directory.path().join("keys.json.set-aside");
    let first = kept(&path, "holo:80", LATE);
    first.encryption("sales").await;
    written(&path, |text| text.contains("sales")).await;
    drop(first);
    let good = std::fs::read_to_string(&path).unwrap();
    for (text, upstream) in [
        (good.clone(), "other:80"),
        (good[..good.len() / 2].to_owned(), "holo:80"),
        (good.replace("\"version\": 1", "\"version\": 2"), "holo:80"),
        (
            good.replace("looked_up\": \"19", "looked_up\": \"x"),
            "holo:80",
        ),
        (
            good.replace("\"region\": null", "\"region\": \"r\""),
            "holo:80",
        ),
        ("\u{0}".into(), "holo:80"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let fixture = kept(&path, upstream, LATE);
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), text);
        assert_eq!(fixture.cache.records(), 0);
        assert_eq!(fixture.encryption("sales").await, Some(kms()));
        assert_eq!(fixture.provider.lookups(), 1);
        std::fs::remove_file(&aside).unwrap();
    }
}

#[tokio::test]
async fn records_outlive_an_address_that_goes_and_comes_back_and_one_more_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let keeps = async |upstream: &str, project: &str, records: usize| {
        let fixture = kept(&path, upstream, LATE);
        assert_eq!(fixture.cache.records(), records, "{upstream}");
        fixture.encryption(project).await;
        written(&path, |text| text.contains(project)).await;
    };
    keeps("holo:80", "sales", 0).await;
    keeps("other:80", "hr", 0).await;
    keeps("holo:80", "hr", 1).await;
    keeps("holo:80, second:80", "hr", 2).await;
}

/// Whatever stands there that Osprey has not written stays as it is, at the start and at each writing.
#[tokio::test]
async fn what_is_not_osprey_s_own_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let notes = directory.path().join("notes.txt");
    let tree = directory.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("kept"), "kept").unwrap();
    for text in ["my notes", "{\"format\": \"another's\"}", "\0\0text"] {
        std::fs::write(&notes, text).unwrap();
        for path in [&notes, &tree] {
            let fixture = kept(path, "holo:80", LATE);
            assert_eq!(fixture.encryption("sales").await, Some(kms()));
            fixture.cache.save().await;
        }
        assert_eq!(std::fs::read_to_string(&notes).unwrap(), text);
    }
    assert_eq!(std::fs::read_to_string(tree.join("kept")).unwrap(), "kept");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 2, "nothing is put beside it either");

    // It may come to stand there later: where the settings name another file, or somebody puts one.
    let path = directory.path().join("keys.json");
    let fixture = kept(&path, "holo:80", LATE);
    std::fs::write(&path, "my notes").unwrap();
    assert_eq!(fixture.encryption("sales").await, Some(kms()));
    fixture.cache.save().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "my notes");
    std::fs::remove_file(&path).unwrap();
    fixture.cache.save().await;
    assert!(std::fs::read_to_string(&path).unwrap().contains("sales"));
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_the_next_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let cache = kept(&path, "holo:80", LATE).cache;
    cache.save().await;
    assert!(!path.exists(), "there is nothing to write");
    cache.learn("taught");
    let begun = tokio::time::Instant::now();
    cache.save().await;
    assert!(std::fs::read_to_string(&path).unwrap().contains("taught"));
    assert!(begun.elapsed() < Duration::from_secs(1), "the usual delay");
}

#[tokio::test]
async fn another_process_takes_in_what_is_newer_and_only_of_its_own_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let first = kept(&path, "holo:80", LATE);
    first.cache.get("sales").await.unwrap();
    let told = first.cache.told(None).unwrap();
    let handed_over = first.clock.wall();
    first.clock.forward(HOUR);
    first.cache.learn("late");
    assert!(
        first
            .cache
            .told(Some(handed_over))
            .unwrap()
            .contains("late")
    );
    assert!(
        !first
            .cache
            .told(Some(handed_over))
            .unwrap()
            .contains("sales")
    );
    assert_eq!(first.cache.told(Some(first.clock.wall())), None);

    let second = kept(&directory.path().join("other"), "holo:80", LATE + HOUR);
    second.cache.learn("sales");
    assert!(second.cache.take_in(&told));
    let known = second.cache.peek("sales").unwrap();
    assert_eq!(
        known.origin,
        Origin::Cloud,
        "a provider's word goes before a lesson, whichever came later"
    );
    assert!(
        second
            .cache
            .take_in(&first.cache.told(Some(handed_over)).unwrap())
    );
    assert!(second.cache.peek("late").is_some());

    let third = kept(&directory.path().join("third"), "elsewhere:80", LATE);
    for wrong in [&*told, "", "{}"] {
        assert!(!third.cache.take_in(wrong), "{wrong}");
    }
    assert_eq!(third.cache.records(), 0);
}

#[tokio::test]
async fn a_file_that_another_process_keeps_is_left_alone_until_it_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (first, second) = (kept(&path, "holo:80", LATE), kept(&path, "holo:80", LATE));
    first.cache.leave_file();
    first.cache.learn("of_the_first");
    first.cache.save().await;
    assert!(!path.exists());
    second.cache.learn("of_the_second");
    second.cache.save().await;
    first.cache.take_file_back().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("of_the_first") && text.contains("of_the_second"),
        "{text}"
    );
}
