//! One statement, as a session would decide it, told to people.

use std::sync::Arc;

use serde_json::json;

use crate::catalog::route::{is_common_table, route_setting};
use crate::config::{self, Mode, Scope};
use crate::keys::{Encryption, LookupError, words};
use crate::protection::knowledge::DatabaseKnowledge;
use crate::protection::{Decision, Effects, NameContext, Reason, RouteHint, Source};

/// How a statement stands: protected or not, why, and what would be sent.
pub struct Explanation {
    database: String,
    /// How the session's names resolve.
    names: NameContext,
    decision: Arc<Decision>,
    reasons: Vec<Arc<Reason>>,
    /// The catalogs were read.
    read: bool,
    /// What Hologres has against the statement, as it says it to the catalog account.
    pub objection: Option<String>,
    /// Projects that nobody could be asked about, and why.
    pub not_known: Vec<(String, LookupError)>,
    mode: Mode,
    scope: Scope,
    /// What may be run again: reads, and writes that stand alone.
    retry: bool,
    retry_writes: bool,
    /// The setting that would be made: name and value.
    setting: (&'static str, &'static str),
    /// That setting lets data be read that is encrypted with the default key, too.
    common_table: bool,
    /// A fresh session reads encrypted data without it.
    already: bool,
}

impl Explanation {
    /// Decides `statement` as a session of `user` on `database` would; of a text longer than
    /// `inspect` bytes, only so much is looked at.
    pub fn of(
        database: &DatabaseKnowledge,
        route: &config::Route,
        inspect: usize,
        user: &str,
        statement: &str,
    ) -> Self {
        let snapshot = database.load_full();
        let names = NameContext::new(user, &database.search_path(user));
        let text = statement.as_bytes();
        let decision = match text.get(..inspect) {
            Some(head) if head.len() < text.len() => snapshot.decide_prefix(head, &names),
            _ => snapshot.decide(text, &names),
        };
        // Of a text that is cut off, the decision's own reason is all that is known.
        let reasons = match &decision.protected {
            None => Vec::new(),
            Some(first) => match snapshot.reasons(text, &names) {
                all if all.is_empty() => vec![Arc::clone(first)],
                all => all,
            },
        };
        let common_table = is_common_table(route.kind, snapshot.version());
        Self {
            database: database.name().to_owned(),
            names,
            decision,
            reasons,
            read: database.reading_age().is_some(),
            objection: None,
            not_known: Vec::new(),
            mode: route.mode,
            scope: route.scope,
            retry: route.retry,
            retry_writes: route.retry_writes,
            setting: route_setting(common_table),
            common_table,
            already: database.route(user).reads_encrypted_already(),
        }
    }

    /// True if nobody can say whether it is protected: the catalogs have not been read, and it may read
    /// anything.
    pub fn is_unknown(&self) -> bool {
        !self.read
            && self.decision.protected.is_none()
            && self.decision.effects.intersects(Effects::READS_FOREIGN)
    }

    /// The statement that a session which has not had it yet would get in front.
    pub fn sent(&self) -> Option<String> {
        let wanted = match self.decision.hint {
            Some(RouteHint::Sqe) => true,
            Some(RouteHint::Hqe | RouteHint::Off) => false,
            None => self.decision.protected.is_some(),
        };
        let (name, value) = self.setting;
        (wanted && !self.already && self.mode == Mode::Steer)
            .then(|| format!("SET {name} = {value}"))
    }

    /// True if it reads data that is encrypted with the default key, and what is sent does not let it.
    fn is_out_of_reach(&self) -> bool {
        let default_key = |reason: &Arc<Reason>| {
            let record = reason.key.as_deref();
            record.is_some_and(|record| record.encryption == Encryption::DefaultKey)
        };
        !self.common_table && self.sent().is_some() && self.reasons.iter().any(default_key)
    }

    /// Whether it is run again should HQE fail on it, outside a transaction block: the word for it, and
    /// what it means.
    fn run_again(&self) -> (&'static str, &'static str) {
        let effects = self.decision.effects;
        let alone = Effects::MULTIPLE.union(Effects::BEGINS);
        if !self.retry || self.mode == Mode::Observe {
            ("switched_off", "no: that is switched off")
        } else if effects.intersects(Effects::WRITES.union(Effects::COPY_IN)) {
            ("writes", "no: it does more than read")
        } else if effects.intersects(Effects::CALLS_UNKNOWN) {
            (
                "unknown_function",
                "no: it calls a function that may not be harmless to run twice",
            )
        } else if !effects.intersects(Effects::UNDONE_WHOLE) {
            ("reads", "yes, until a row of it has left")
        } else if self.retry_writes && !effects.intersects(alone) {
            (
                "write_alone",
                "yes, outside a transaction block: a failure leaves nothing of it",
            )
        } else {
            ("writes", "no: it writes, and not alone")
        }
    }

    /// The search path, as SHOW prints it.
    fn path(&self) -> String {
        let path = self.names.search_path.as_ref();
        path.map_or_else(|| "not known".into(), |path| path.join(", "))
    }

    /// All of it as JSON.
    pub fn json(&self) -> serde_json::Value {
        let reasons = self.reasons.iter().map(|reason| {
            json!({
                "relation": reason.relation,
                "via": reason.via,
                "project": reason.project,
                "source": source(reason.source),
                "record": reason.key.as_deref().map(words::record),
            })
        });
        json!({
            "database": self.database,
            "session": {
                "user": self.names.user,
                "search_path": self.names.search_path,
                "standard_conforming_strings": "on",
                "client_encoding": "UTF8",
            },
            "protected": (!self.is_unknown()).then_some(self.decision.protected.is_some()),
            "catalogs_read": self.read,
            "objection": self.objection,
            "reasons": reasons.collect::<Vec<_>>(),
            "not_looked_up": self
                .not_known
                .iter()
                .map(|(project, error)| json!({"project": project, "error": error.to_string()}))
                .collect::<Vec<_>>(),
            "reads_foreign": (!self.is_unknown())
                .then_some(self.decision.effects.intersects(Effects::READS_FOREIGN)),
            "hint": self.decision.hint.map(hint),
            "reads_encrypted_already": self.already,
            "sends": self.sent(),
            "run_again": self.run_again().0,
            "out_of_reach": self.is_out_of_reach(),
        })
    }

    /// All of it for people, in lines.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.decision.protected.is_some() {
            lines.push("protected: yes".into());
            self.reasons
                .iter()
                .for_each(|reason| told(reason, &mut lines));
        } else if self.is_unknown() {
            lines.push("protected: not known".to_owned());
        } else {
            lines.push("protected: no".to_owned());
            if self.decision.effects.intersects(Effects::READS_FOREIGN) {
                lines.push(
                    "  it reads MaxCompute data that is not known to be encrypted; should HQE fail \
                     on it, Osprey learns from that"
                        .into(),
                );
            }
        }
        let user = if self.names.user.is_empty() {
            "not named"
        } else {
            &self.names.user
        };
        lines.push(format!(
            "session:   user {user}, search_path {}, standard_conforming_strings on, client_encoding UTF8",
            self.path()
        ));
        if let Some(objection) = &self.objection {
            lines.push(format!("Hologres:  {objection}, to the catalog account"));
        }
        if !self.read {
            lines.push(
                "not known: which relations lead to MaxCompute, since there is no catalog account \
                 to read the catalogs with (--catalog-user); sessions read them in their own name"
                    .into(),
            );
        }
        for (project, error) in &self.not_known {
            lines.push(format!("not known: project {project}: {error}"));
        }
        if let Some(asked) = self.decision.hint {
            lines.push(format!("comment:   osprey: route={}", hint(asked)));
        }
        let sent = match self.sent() {
            Some(sent) => {
                let lasts = match self.scope {
                    Scope::Session => "once, for the rest of the session",
                    Scope::Statement => "for this statement alone",
                };
                format!(
                    "{sent}\n           {lasts}; with DISCARD PLANS in front, if the session has \
                     planned what may need it before"
                )
            }
            None if self.mode == Mode::Observe && self.decision.protected.is_some() => {
                "nothing: route.mode is \"observe\", so it is only counted and logged".into()
            }
            None if self.already => {
                format!("nothing: sessions of {} start with it", self.database)
            }
            None if self.is_unknown() => {
                "not known: a session that has read the catalogs decides it".into()
            }
            None => "nothing".into(),
        };
        lines.push(format!("sends:     {sent}"));
        if self.decision.effects.intersects(Effects::READS_FOREIGN) {
            lines.push(format!("run again: {}", self.run_again().1));
        }
        if self.is_out_of_reach() {
            lines.push(
                "but:       engine SQE cannot read data encrypted with MaxCompute's default key; set \
                 route.kind = \"common-table\" (--route common-table), from Hologres V3.2 on"
                    .into(),
            );
        }
        lines.join("\n") + "\n"
    }
}

fn told(reason: &Reason, lines: &mut Vec<String>) {
    lines.push(format!("relation:  {}", reason.relation));
    for via in &reason.via {
        lines.push(format!("  reads    {via}"));
    }
    if let Some(project) = &reason.project {
        lines.push(format!("project:   {project}"));
    }
    if let Some(record) = &reason.key {
        lines.push(format!("key:       {}", words::encryption(record)));
    }
    let known = match (reason.source, &reason.key) {
        (Source::Key, Some(record)) => words::origin(record.origin),
        (Source::Pattern, _) => "a pattern under [protect] matches it",
        (Source::Key | Source::Learned, _) => "HQE failed on it",
    };
    lines.push(format!("known:     {known}"));
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Pattern => "pattern",
        Source::Key => "key",
        Source::Learned => "learned",
    }
}

fn hint(hint: RouteHint) -> &'static str {
    match hint {
        RouteHint::Sqe => "sqe",
        RouteHint::Hqe => "hqe",
        RouteHint::Off => "off",
    }
}
