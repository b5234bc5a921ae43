//! What is protected, why, and through what.

use std::time::SystemTime;

use super::*;
use crate::config::ConfiguredEncryption;
use crate::keys::{Encryption, KmsKey, Origin};
use crate::protection::NameContext;

fn foreign(name: &str, project: &str) -> Relation {
    Relation {
        schema: "public".into(),
        name: name.into(),
        sort: Sort::Relation,
        inherited: false,
        policed: false,
        project: Some(project.into()),
        reads: Vec::new(),
    }
}

fn view(name: &str, reads: &[usize]) -> Relation {
    Relation {
        schema: "public".into(),
        name: name.into(),
        sort: Sort::Relation,
        inherited: false,
        policed: false,
        project: None,
        reads: reads.to_vec(),
    }
}

fn record(project: &str, encryption: Encryption, origin: Origin) -> (String, Arc<KeyRecord>) {
    let record = KeyRecord {
        project: project.into(),
        encryption,
        origin,
        looked_up: SystemTime::UNIX_EPOCH,
    };
    (project.into(), Arc::new(record))
}

fn kms() -> Encryption {
    Encryption::Kms(KmsKey::default())
}

fn ingredients(relations: Vec<Relation>) -> Ingredients {
    let contents = Contents {
        relations,
        search_path: "public".into(),
        ..Contents::default()
    };
    Ingredients {
        contents: Some(Arc::new(contents)),
        records: HashMap::from([
            record("secret", kms(), Origin::Cloud),
            record("default", Encryption::DefaultKey, Origin::Configured),
            record("open", Encryption::None, Origin::Configured),
            record("burnt", kms(), Origin::Learned),
        ]),
        ..Ingredients::default()
    }
}

fn pattern(database: &str, schema: &str, table: &str) -> TablePattern {
    TablePattern {
        database: database.into(),
        schema: schema.into(),
        table: table.into(),
    }
}

fn believed(project: &str, relations: &[(Option<&str>, &str)]) -> Believed {
    let relations = relations.iter();
    Believed {
        project: project.into(),
        relations: relations
            .map(|(schema, name)| (schema.map(Into::into), (*name).to_owned()))
            .collect(),
    }
}

/// What a session makes of a project is judged by what is known of the project, whether or not a relation of
/// the database leads to it yet.
#[test]
fn the_first_table_of_a_project_is_judged_by_what_is_known_of_the_project() {
    let mut known = ingredients(Vec::new());
    known.rules = vec![ProjectRule {
        name: "fin_*".into(),
        encryption: ConfiguredEncryption::Kms,
        key_id: None,
    }];
    known.believed = vec![believed("heard", &[])];
    let snapshot = known.snapshot("db", 7);
    let source = |text: &str| {
        let names = NameContext::new("u", "public");
        let decision = snapshot.decide(text.as_bytes(), &names);
        decision.protected.as_deref().map(|reason| reason.source)
    };
    for (project, wanted) in [
        ("Secret", Some(Source::Key)),
        ("fin_2026", Some(Source::Key)),
        ("burnt", Some(Source::Learned)),
        ("heard", Some(Source::Learned)),
        ("open", None),
        ("other", None),
    ] {
        let table = format!(
            "CREATE FOREIGN TABLE t (a int) SERVER odps_server OPTIONS (project_name '{project}'); SELECT * FROM t"
        );
        assert_eq!(source(&table), wanted, "{table}");
        let import = format!(
            "IMPORT FOREIGN SCHEMA {project} LIMIT TO (t) FROM SERVER odps_server INTO public; \
             SELECT * FROM t"
        );
        assert_eq!(source(&import), wanted, "{import}");
    }
}

/// Whether `SELECT` from it is protected, as a session on search path `public` sees it.
fn protected(ingredients: &Ingredients, relation: &str) -> Option<Arc<Reason>> {
    let names = NameContext {
        user: "u".into(),
        search_path: Some(vec!["public".into()]),
    };
    let snapshot = ingredients.snapshot("db", 7);
    assert_eq!(snapshot.generation(), 7);
    let sql = format!("SELECT * FROM {relation}");
    snapshot.decide(sql.as_bytes(), &names).protected.clone()
}

#[test]
fn encryption_is_the_projects() {
    let known = ingredients(vec![
        foreign("a", "Secret#default"),
        foreign("b", "default"),
        foreign("c", "open"),
        foreign("d", "unheard_of"),
        foreign("e", "burnt"),
    ]);
    let reason = protected(&known, "a").unwrap();
    assert_eq!(
        (reason.relation.as_str(), reason.source),
        ("public.a", Source::Key)
    );
    assert_eq!(reason.project.as_deref(), Some("secret"));
    assert_eq!(reason.key.as_ref().unwrap().encryption, kms());
    assert!(reason.via.is_empty());
    assert_eq!(protected(&known, "b").unwrap().source, Source::Key);
    assert_eq!(protected(&known, "c"), None);
    assert_eq!(protected(&known, "d"), None);
    assert_eq!(protected(&known, "e").unwrap().source, Source::Learned);
    let snapshot = known.snapshot("db", 1);
    assert_eq!(
        (snapshot.protected_count(), snapshot.foreign_count()),
        (3, 2)
    );
    assert_eq!(snapshot.search_path(), "public");
    let projects = known.projects();
    assert_eq!(projects.len(), 5);
    assert!(projects.contains("secret"));
}

#[test]
fn the_chain_leads_to_the_encrypted_table_not_to_the_plain_one() {
    let known = ingredients(vec![
        foreign("plain", "open"),
        foreign("secret", "secret"),
        view("v1", &[0, 1]),
        view("v2", &[0, 2]),
        view("harmless", &[0]),
    ]);
    let reason = protected(&known, "v2").unwrap();
    assert_eq!(reason.relation, "public.v2");
    assert_eq!(reason.via, ["public.v1", "public.secret"]);
    assert_eq!(reason.project.as_deref(), Some("secret"));
    assert_eq!(protected(&known, "harmless"), None);
}

#[test]
fn a_cycle_of_rules_ends() {
    let known = ingredients(vec![
        foreign("f", "secret"),
        view("a", &[2, 0]),
        view("b", &[1]),
    ]);
    assert_eq!(
        protected(&known, "b").unwrap().via,
        ["public.a", "public.f"]
    );
    assert_eq!(
        known.projects_behind(2),
        HashSet::from(["secret".to_owned()])
    );
}

#[test]
fn a_pattern_protects_what_it_names_and_all_that_reads_it() {
    let mut known = ingredients(vec![foreign("f", "open"), view("v", &[0])]);
    known.patterns = vec![pattern("other", "*", "f")];
    assert_eq!(protected(&known, "f"), None, "it is for another database");
    known.patterns = vec![pattern("d?", "public", "f")];
    let reason = protected(&known, "v").unwrap();
    assert_eq!(
        (reason.source, reason.via.as_slice()),
        (Source::Pattern, &["public.f".to_owned()][..])
    );
    assert!(
        reason.key.is_some(),
        "what is known of the key is told all the same"
    );

    let without_catalog = Ingredients {
        patterns: vec![pattern("*", "*", "secret_*")],
        ..Ingredients::default()
    };
    assert_eq!(
        protected(&without_catalog, "secret_x").unwrap().source,
        Source::Pattern
    );
    assert_eq!(protected(&without_catalog, "open_x"), None);
}

#[test]
fn a_lesson_protects_the_projects_tables_and_all_that_reads_them() {
    let mut known = ingredients(vec![
        foreign("f", "Unheard_of#x"),
        view("v", &[0]),
        foreign("other", "open"),
    ]);
    known.believed = vec![believed("unheard_of", &[(None, "local"), (None, "other")])];
    let reason = protected(&known, "f").unwrap();
    assert_eq!(reason.source, Source::Learned);
    assert_eq!(reason.project.as_deref(), Some("unheard_of"));
    assert_eq!(protected(&known, "v").unwrap().via, ["public.f"]);
    // What the catalogs do not lead to the project is not marked.
    assert_eq!(protected(&known, "local"), None);
    assert_eq!(protected(&known, "other"), None);
}

#[test]
fn while_nobody_has_read_the_catalogs_a_lesson_protects_its_relations() {
    let mut known = Ingredients {
        believed: vec![believed("p", &[(Some("s"), "f"), (None, "unread")])],
        ..Ingredients::default()
    };
    assert_eq!(protected(&known, "s.f").unwrap().source, Source::Learned);
    assert_eq!(protected(&known, "f"), None);
    let anywhere = protected(&known, "anywhere.unread").unwrap();
    assert_eq!(anywhere.relation, "unread");
    assert_eq!(anywhere.project.as_deref(), Some("p"));
    let open = record("p", Encryption::None, Origin::Configured);
    known.records = HashMap::from([open]);
    assert_eq!(protected(&known, "s.f"), None, "it is contradicted");
}

#[test]
fn a_key_record_contradicts_a_lesson() {
    let mut known = ingredients(vec![foreign("f", "open"), view("v", &[0])]);
    known.believed = vec![believed("open", &[(None, "f")])];
    assert_eq!(protected(&known, "f"), None);
    assert_eq!(protected(&known, "v"), None);
    let snapshot = known.snapshot("db", 1);
    assert_eq!(snapshot.has_project("open"), Some(false));
}

#[test]
fn a_snapshot_says_which_projects_are_behind_a_name() {
    let known = ingredients(vec![
        foreign("a", "secret"),
        foreign("b", "Unheard_of"),
        view("both", &[0, 1]),
    ]);
    let snapshot = known.snapshot("db", 1);
    let leads = |schema: Option<&str>, name: &str, project| {
        snapshot.leads_to(&(schema.map(Into::into), name.into()), project)
    };
    assert_eq!(leads(None, "both", "unheard_of"), Some(true));
    assert_eq!(leads(Some("public"), "both", "secret"), Some(true));
    assert_eq!(leads(Some("public"), "b", "secret"), Some(false));
    assert_eq!(leads(Some("other"), "b", "unheard_of"), None);
    assert_eq!(leads(None, "local", "secret"), None);
    assert_eq!(snapshot.has_project("secret"), Some(true));
    assert_eq!(snapshot.has_project("never"), Some(false));
    let unread = Ingredients::default().snapshot("db", 1);
    assert_eq!(unread.has_project("secret"), None);
}
