//! A configuration of several files, and the files that it names.

use super::*;

/// A main file and those beside it, by their names.
fn files(main: &str, others: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let (directory, path) = file(main);
    for (name, text) in others {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    (directory, path)
}

fn load_files(main: &str, others: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let (directory, path) = files(main, others);
    let loaded = load(Some(path), &Environment::default(), &[]);
    let directory = format!("{}/", directory.path().display());
    loaded.map_err(|problems| {
        let texts = problems.iter();
        texts
            .map(|problem| problem.to_string().replace(&directory, ""))
            .collect()
    })
}

const UPSTREAM: (&str, &str) = ("conf.d/10.toml", "[upstream]\naddress = \"holo:80\"\n");

#[test]
fn files_add_up() {
    let loaded = load_files(
        "include = [\"conf.d/*.toml\", \"more.toml\"]\n[limits]\nmax_logins = 5\n\
         [[protect.project]]\nname = \"a\"\n",
        &[
            UPSTREAM,
            (
                "conf.d/20.toml",
                "[limits]\nmax_sessions = 7\n[upstream.tls]\nmode = \"require\"\n",
            ),
            ("conf.d/.hidden.toml", "nonsense"),
            ("conf.d/20.toml.bak", "nonsense"),
            ("more.toml", "\n[[protect.project]]\nname = \"b\"\n"),
        ],
    );
    let settings = loaded.unwrap().settings;
    let limits = &settings.limits;
    assert_eq!((limits.max_logins.total, limits.max_sessions.total), (5, 7));
    assert_eq!(settings.upstream().tls.mode, TlsMode::Require);
    let projects = settings.upstream().protect.projects.iter();
    let names: Vec<_> = projects.map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_directory_without_files_includes_nothing() {
    let (directory, path) = files("include = [\"conf.d/*.toml\"]\n", &[]);
    std::fs::create_dir(directory.path().join("conf.d")).unwrap();
    assert!(load(Some(path), &Environment::default(), &[upstream_flag()]).is_ok());
}

/// Every mistake is in its own file and line.
#[test]
fn mistakes_are_where_they_were_made() {
    let wrong = load_files(
        "include = [\"conf.d/*.toml\"]\n[limits]\nworkers = 2\n",
        &[
            UPSTREAM,
            (
                "conf.d/20.toml",
                "\n[limits]\nmax_sessions = 0\nworkers = 3\n",
            ),
            (
                "conf.d/30.toml",
                "include = [\"x\"]\n\n[keys]\nttll = \"1h\"\n",
            ),
            ("conf.d/40.toml", "[[upstream]]\nname = \"second\"\n"),
        ],
    )
    .unwrap_err();
    assert_eq!(
        wrong,
        [
            "conf.d/20.toml:4: limits.workers: is set in osprey.toml:3, too; set it once",
            "conf.d/30.toml:1: include: stands in a file that is included itself; only the main file \
             includes",
            "conf.d/40.toml:1: upstream: is set in conf.d/10.toml:1, too; set it once",
            "conf.d/20.toml:3: limits.max_sessions: must be above 0",
            "conf.d/30.toml:4: keys.ttll: is not a setting; did you mean \"ttl\"?",
        ]
    );
}

#[test]
fn a_file_that_is_not_toml_or_not_there_is_told() {
    let wrong = load_files(
        "\ninclude = [\"conf.d/*.toml\", \"missing.toml\", \"no.d/*\"]\n",
        &[("conf.d/1.toml", "[limits\n"), ("conf.d/2.toml", "a = \n")],
    )
    .unwrap_err();
    let begins = [
        "osprey.toml:2: include: cannot read missing.toml: ",
        "osprey.toml:2: include: cannot look for no.d/*: ",
        "conf.d/1.toml:1: not TOML: ",
        "conf.d/2.toml:1: not TOML: ",
    ];
    assert_eq!(wrong.len(), begins.len(), "{wrong:#?}");
    for (text, begin) in wrong.iter().zip(begins) {
        assert!(text.starts_with(begin), "{text}");
    }
    let wrong = load_files("include = \"conf.d/*.toml\"\n", &[]).unwrap_err();
    assert!(
        wrong[0].starts_with("osprey.toml:1: include: expects a list of texts"),
        "{wrong:#?}"
    );
}

#[test]
fn names_of_files_begin_at_the_directory_of_the_file_that_has_them() {
    let main = "include = [\"conf.d/*.toml\"]\n[keys]\nsnapshot = \"keys.json\"\n";
    let other = "[catalog]\nuser = \"svc\"\npassword_file = \"../secret\"\n";
    let (directory, path) = files(
        main,
        &[UPSTREAM, ("conf.d/20.toml", other), ("secret", "hunter2\n")],
    );
    let loaded = load(Some(path), &Environment::default(), &[]).unwrap();
    let keys = &loaded.settings.keys;
    assert_eq!(keys.snapshot, Some(directory.path().join("keys.json")));
    let catalog = &loaded.settings.upstream().catalog;
    assert_eq!(catalog.password, Some(Secret("hunter2".into())));
}

#[test]
fn a_secret_may_be_a_credential_of_the_service_managers() {
    let (directory, path) = file(
        "[upstream]\naddress = \"holo:80\"\n[catalog]\nuser = \"svc\"\n\
         password_file = \"$CREDENTIALS_DIRECTORY/catalog-password\"\n",
    );
    let credentials = directory.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("catalog-password"), "hunter2").unwrap();
    let there = credentials.display().to_string();
    let environment = environment(&[("CREDENTIALS_DIRECTORY", &there)]);
    let loaded = load(Some(path.clone()), &environment, &[]).unwrap();
    let password = &loaded.settings.upstream().catalog.password;
    assert_eq!(*password, Some(Secret("hunter2".into())));
    let flag = flag(
        Key::CatalogPasswordFile,
        "--catalog-password-file",
        "${CREDENTIALS_DIRECTORY}/other",
    );
    let wrong = load(Some(path.clone()), &environment, &[flag]).unwrap_err();
    assert!(
        wrong[0].to_string().contains("credentials/other"),
        "{wrong:?}"
    );
    let wrong = load(Some(path), &Environment::default(), &[]).unwrap_err();
    let text = wrong[0].to_string();
    assert!(
        text.contains(":5: catalog.password_file: names a credential")
            && text.contains("LoadCredential=catalog-password:"),
        "{text}"
    );
}
