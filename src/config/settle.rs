//! What holds for all upstreams, given to each, now that no source can change it any more.

use std::path::{Path, PathBuf};

use super::draft::{Draft, PasswordSource, Pending};
use super::named_file::{unreadable, warn_if_public};
use super::problem::Notes;
use super::secret::Secret;
use super::upstream::{Catalog, Protect};

/// Completes the draft: what is protected, the catalog accounts' passwords, and where a listener
/// leads if there is only one upstream.
pub(super) fn settle(draft: &mut Draft) {
    let (pending, notes) = (&mut draft.pending, &mut draft.notes);
    let upstreams = &mut draft.settings.upstreams;
    for (upstream, part) in upstreams.iter_mut().zip(&mut pending.upstreams) {
        upstream.protect = both(std::mem::take(&mut part.protect), &pending.protect);
    }
    if let [only] = upstreams.as_slice() {
        for listener in &mut draft.settings.listeners {
            listener.upstream.get_or_insert_with(|| only.name.clone());
        }
    }
    if let Some(replicas) = &mut draft.settings.replicas {
        for (key, what, file, target) in [
            (
                "replicas.password_file",
                "the password",
                &replicas.password_file,
                &mut replicas.password,
            ),
            (
                "replicas.hmac_key_file",
                "the key",
                &replicas.hmac_key_file,
                &mut replicas.hmac_key,
            ),
        ] {
            if let Some(path) = file {
                *target = read(path, key, what, notes);
            }
        }
    }
    if !draft.unread {
        let catalogs: Vec<_> = upstreams.iter_mut().map(|u| &mut u.catalog).collect();
        passwords(catalogs, pending, notes);
    }
}

/// What an upstream says itself, then what holds for all. The order matters to patterns, of which
/// the first one decides; of two rules for one name, the upstream's own is meant.
fn both(mut own: Protect, common: &Protect) -> Protect {
    let projects = &common.projects;
    let other = projects
        .iter()
        .filter(|rule| own.projects.iter().all(|own| own.name != rule.name));
    let other: Vec<_> = other.cloned().collect();
    own.projects.extend(other);
    let tables = common.tables.iter();
    let other: Vec<_> = tables.filter(|table| !own.tables.contains(table)).collect();
    let other: Vec<_> = other.into_iter().cloned().collect();
    own.tables.extend(other);
    own
}

/// Gives each account its password, and looks for one without the other.
fn passwords(catalogs: Vec<&mut Catalog>, pending: &Pending, notes: &mut Notes) {
    let nobody = catalogs.iter().all(|catalog| catalog.user.is_none());
    for (catalog, part) in catalogs.into_iter().zip(&pending.upstreams) {
        let own = part.password.as_ref();
        let source = own.or(pending.password.as_ref());
        let key = match source {
            _ if own.is_some() => part.key("catalog.password_file"),
            Some(PasswordSource::File(_)) => "catalog.password_file".into(),
            _ => "catalog.password".into(),
        };
        let user = part.key_or_common("catalog.user", notes);
        if catalog.user.is_none() {
            // A password under [catalog] is for the upstreams that have an account. It is a mistake
            // only if none has.
            if own.is_some() || source.is_some() && nobody {
                notes.wrong(
                    &key,
                    "there is a password but no user; set --catalog-user, OSPREY_CATALOG_USER or \
                     catalog.user",
                );
            }
            continue;
        }
        if own.is_none() && source.is_some() && user != "catalog.user" {
            let for_all = notes.is_given("catalog.user");
            if for_all {
                notes.warn(
                    &user,
                    "is another account than the one of [catalog], whose password it gets; if it \
                     has its own, set password_file beside it",
                );
            }
        }
        match source {
            None => notes.warn(
                &user,
                "has no password; unless Hologres lets this user in without one, set \
                 OSPREY_CATALOG_PASSWORD or catalog.password_file",
            ),
            Some(PasswordSource::Given(secret)) => catalog.password = Some(secret.clone()),
            Some(PasswordSource::File(path)) => {
                catalog.password = read(path, &key, "the password", notes);
                catalog.password_file = Some(PathBuf::clone(path));
            }
        }
    }
}

/// The secret in a file: its one line.
fn read(path: &Path, key: &str, what: &str, notes: &mut Notes) -> Option<Secret> {
    warn_if_public(path, key, what, notes);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            unreadable(path, key, &error, notes);
            return None;
        }
    };
    let line = text.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        notes.wrong(key, format!("{} is empty", path.display()));
    } else if line.contains(['\r', '\n']) {
        notes.wrong(
            key,
            format!(
                "{} has more than one line; leave {what} alone in it",
                path.display()
            ),
        );
    }
    Some(Secret(line.to_owned()))
}
