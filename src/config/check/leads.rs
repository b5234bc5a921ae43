//! Which listener leads to which upstream: rules that overlap, and names that nothing bears.

use crate::config::draft::Pending;
use crate::config::listener::Listener;
use crate::config::problem::{Notes, nearest};
use crate::config::settings::Settings;
use crate::glob::Glob;

/// Checks that each session matches one rule of a listener at most.
pub(super) fn overlaps(listener: &Listener, path: &str, notes: &mut Notes) {
    let globs = listener.rules.iter().map(|rule| {
        let [user, database] = [&rule.user, &rule.database].map(|pattern| Glob::exact(pattern));
        (user, database)
    });
    let globs: Vec<_> = globs.collect();
    for (at, (user, database)) in globs.iter().enumerate() {
        for (earlier, (other_user, other_database)) in globs[..at].iter().enumerate() {
            let (Some(user), Some(database)) =
                (user.common(other_user), database.common(other_database))
            else {
                continue;
            };
            // If the name that both have in common is the empty one, both patterns consist of
            // stars.
            let such = |what: &str, name: String| match name.as_str() {
                "" => format!("any {what}"),
                name => format!("{what} {name:?}"),
            };
            let aside = notes.aside(&format!("{path}.rule[{earlier}]"));
            let (user, database) = (such("user", user), such("database", database));
            notes.wrong(
                &format!("{path}.rule[{at}]"),
                format!(
                    "overlaps with an earlier rule{aside}: both match {user} with {database}; make \
                     the patterns such that no session matches two"
                ),
            );
        }
    }
}

/// Checks the upstreams' names, and those by which listeners lead to them.
pub(super) fn names(settings: &Settings, pending: &Pending, notes: &mut Notes) {
    let upstreams = &settings.upstreams;
    let mut complete = true;
    for (at, (upstream, part)) in upstreams.iter().zip(&pending.upstreams).enumerate() {
        let key = part.key("name");
        if notes.is_wrong(&key) {
            complete = false;
            continue;
        }
        let mut earlier = upstreams[..at].iter().zip(&pending.upstreams);
        if let Some((_, other)) = earlier.find(|(other, _)| other.name == upstream.name) {
            let aside = notes.aside(&other.key("name"));
            let text = format!("{:?} is another upstream's name{aside}", upstream.name);
            notes.wrong(&key, text);
        }
    }
    // An upstream whose name is missing may be the one that is meant.
    if !complete {
        return;
    }
    let names: Vec<&str> = upstreams.iter().map(|u| u.name.as_str()).collect();
    let check = |key: &str, name: &str, notes: &mut Notes| {
        if notes.is_wrong(key) || names.contains(&name) {
            return;
        }
        let right = match nearest(name, names.iter().copied()) {
            Some(right) => format!("did you mean {right:?}?"),
            None => format!("there is {}", names.join(", ")),
        };
        notes.wrong(key, format!("{name:?} is the name of no upstream; {right}"));
    };
    for (listener, path) in settings.listeners.iter().zip(&pending.listeners) {
        for (number, rule) in listener.rules.iter().enumerate() {
            let key = format!("{path}.rule[{number}].upstream");
            check(&key, &rule.upstream, notes);
        }
        if let Some(name) = &listener.upstream {
            check(&format!("{path}.upstream"), name, notes);
        } else if listener.rules.is_empty() && path == "listen" {
            notes.wrong(
                path,
                "leads nowhere, since there are several upstreams; write [[listener]] instead, with \
                 upstream = \"NAME\" or [[listener.rule]]",
            );
        } else if listener.rules.is_empty() && !notes.is_wrong(&format!("{path}.upstream")) {
            notes.wrong(
                path,
                "leads nowhere, since there are several upstreams; set upstream = \"NAME\", or \
                 write [[listener.rule]]",
            );
        }
    }
    for (upstream, part) in upstreams.iter().zip(&pending.upstreams) {
        let name = &upstream.name;
        let leads = |listener: &Listener| {
            let rules = listener.rules.iter().map(|rule| &rule.upstream);
            rules.chain(&listener.upstream).any(|other| other == name)
        };
        if !settings.listeners.iter().any(leads) {
            notes.warn(&part.path, format!("no listener leads to {name:?}"));
        }
    }
}
