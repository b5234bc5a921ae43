//! What a function may touch when it runs, as its body says. A body in SQL is read as any text is,
//! one in PL/pgSQL by `plpgsql.rs`.

use super::analysis::Analysis;
use super::change::Change;
use super::effects::Effects;
use super::keyword::may_hold;
use super::lexing::{Backslash, may_escape_quotes};
use super::mention::mention_strings;
use super::plpgsql;
use super::reading::analyze;
use super::relation_name::{RelationName, WrittenName};
use super::token::Script;

/// What a function's body may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Body {
    /// The relations that the body may read, and every other name in it that may be a relation or a
    /// function.
    pub(crate) mentions: Vec<WrittenName>,
    /// The relations that the body may write or refresh.
    pub(crate) writes: Vec<WrittenName>,
    /// The functions that the body calls, other than PostgreSQL's and Hologres' own.
    pub(crate) calls: Vec<WrittenName>,
    /// The functions that the body calls, without a schema, by a name that one of PostgreSQL's or
    /// Hologres' own functions has.
    pub(crate) own_calls: Vec<WrittenName>,
    /// The names in the body's strings. They count if the body runs text.
    pub(crate) in_strings: Vec<WrittenName>,
    /// True if the body runs text of its own making, or calls one of PostgreSQL's functions that
    /// does.
    pub(crate) runs_text: bool,
    /// True if the body does nothing but read, as far as the functions that it calls do nothing but
    /// read.
    pub(crate) only_reads: bool,
    /// What the body may change for the session that calls it, each as [`Change::perhaps`] says it.
    pub(crate) sets: Vec<Change>,
    /// True if the route may be another one behind it.
    pub(crate) sets_route: bool,
}

impl Body {
    /// That of a function which computes of its arguments alone.
    pub(crate) fn computes() -> Self {
        Self {
            only_reads: true,
            ..Self::default()
        }
    }
}

/// Of what a text may do, what may leave the session with another route.
const OTHER_ROUTE: Effects = Effects::SETS_ROUTE
    .union(Effects::RESETS_ROUTE)
    .union(Effects::RESETS_ALL)
    .union(Effects::ROUTE_DOUBT);

/// Reads the body of a function that is written in `language`. The answer is `None` if that is
/// neither SQL nor PL/pgSQL.
///
/// A body is read by `standard_conforming_strings` of the session that calls it: where that matters,
/// both readings count together.
pub(crate) fn read(text: &str, language: &str) -> Option<Body> {
    let mut analysis = Analysis::default();
    add(text.as_bytes(), language, Backslash::Plain, &mut analysis)?;
    if may_escape_quotes(text.as_bytes()) {
        add(text.as_bytes(), language, Backslash::Escapes, &mut analysis)?;
    }
    let names = |names: &[RelationName<'_>]| names.iter().map(RelationName::written).collect();
    // What a session has prepared under a name is not the body's to say.
    // PL/pgSQL moves cursors that stay where they are when it fails.
    let moves = language == "plpgsql" && may_hold(text.as_bytes(), &[b"fetch", b"move"]);
    let only_reads =
        !(analysis.runs_text || moves) && analysis.effects.is_empty() && analysis.names.is_empty();
    let mut sets: Vec<Change> = Vec::new();
    for change in analysis.changes.iter().flat_map(Change::perhaps) {
        if !sets.contains(&change) {
            sets.push(change);
        }
    }
    // Also in the texts that it runs.
    let drops = may_hold(text.as_bytes(), &[b"drop", b"alter", b"discard"]);
    if drops && !sets.contains(&Change::MayDrop) {
        sets.push(Change::MayDrop);
    }
    Some(Body {
        sets,
        sets_route: analysis.runs_text || analysis.effects.intersects(OTHER_ROUTE),
        mentions: names(&analysis.mentions),
        writes: names(&analysis.writes),
        calls: names(&analysis.calls),
        own_calls: names(&analysis.own_calls),
        in_strings: names(&analysis.in_strings),
        runs_text: analysis.runs_text,
        only_reads,
    })
}

/// Adds what a body may do; `None`: its language is not read.
fn add<'a>(
    text: &'a [u8],
    language: &str,
    backslash: Backslash,
    all: &mut Analysis<'a>,
) -> Option<()> {
    match language {
        "sql" => {
            for one in analyze(text, backslash).statements {
                all.add(one.effects);
                all.runs_text |= one.runs_text || one.reads_anything;
                all.mentions.extend(one.mentions);
                all.mentions.extend(one.reads);
                all.writes.extend(one.writes);
                all.changes.extend(one.changes);
                all.calls.extend(one.calls);
                all.own_calls.extend(one.own_calls);
                all.names.extend(one.names);
            }
            // Whether strings are run depends on what the functions do that the body calls.
            for statement in Script::read(text, backslash).statements() {
                mention_strings(&statement, &mut all.in_strings);
            }
        }
        "plpgsql" => plpgsql::read(text, backslash, all),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(references: &[WrittenName]) -> Vec<String> {
        let mut names: Vec<String> = references
            .iter()
            .map(|(schema, name)| match schema {
                Some(schema) => format!("{schema}.{name}"),
                None => name.clone(),
            })
            .collect();
        names.sort();
        names
    }

    fn plpgsql(text: &str) -> Body {
        read(text, "plpgsql").expect("a language that is read")
    }

    #[test]
    fn relations_are_found_wherever_a_body_reads_them() {
        for body in [
            "begin select count(*) into n from secret; return n; end",
            "begin return count(*) from secret; end",
            "declare n int := max(a) from secret; begin end",
            "begin if count(*) > 0 from secret then raise notice 'x'; end if; end",
            "begin if exists (select from secret) then return; end if; end",
            "begin for r in select * from plain p, secret loop null; end loop; end",
            "declare c cursor (i int) for select * from secret where a = i; begin open c(1); end",
            "begin return query with x as (select 1) select * from x join secret using (a); end",
            "begin return query table secret; end",
            "begin perform 1 from (plain join secret on true); end",
            "begin if a then update secret set b = 1; end if; end",
            "begin delete from only secret; end",
            "begin delete from plain using u, secret; end",
            "begin merge into secret using plain on true when matched then delete; end",
            "begin copy secret to '/tmp/x'; analyze plain, secret; end",
            "begin raise notice '%', (select a from secret); end",
        ] {
            let body_read = plpgsql(body);
            assert!(
                names(&body_read.mentions).contains(&"secret".into()),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_no_relation_is_not_taken_for_one() {
        for body in [
            "declare secret int := 1; begin return secret; end",
            "declare a secret; b secret.id%type; begin secret := 2; end",
            "<<secret>> begin raise notice 'from secret'; -- from secret\n end",
            "begin return upper('secret'); end",
            "begin select 1 into secret; insert into secret values (1); end",
        ] {
            let body_read = plpgsql(body);
            assert!(
                !names(&body_read.mentions).contains(&"secret".into()),
                "{body}"
            );
            assert!(!body_read.runs_text, "{body}");
        }
    }

    #[test]
    fn what_a_body_calls_runs_and_changes() {
        let body = plpgsql("begin return query execute 'select * from ' || t; end");
        assert!(body.runs_text && !body.only_reads);
        let body = plpgsql("begin perform fn.other(a, (select 1)); return upper(b); end");
        assert_eq!(names(&body.calls), ["fn.other"]);
        assert!(body.only_reads && !body.runs_text);
        for change in [
            "insert into t values (1)",
            "notify x",
            "set a = b",
            "perform nextval('s')",
            "fetch c into a",
            "move next from c",
        ] {
            assert!(
                !plpgsql(&format!("begin {change}; end")).only_reads,
                "{change}"
            );
        }
        let sql = read(
            "select fn.other(a) from ext.t; select upper('secret')",
            "sql",
        );
        let sql = sql.expect("a language that is read");
        assert_eq!(names(&sql.mentions), ["ext.t"]);
        assert_eq!(names(&sql.own_calls), ["upper"]);
        assert_eq!(names(&sql.in_strings), ["secret"]);
        assert!(sql.only_reads && !sql.runs_text);
        assert_eq!(read("", "c"), None);
        let sets = |text: &str| {
            let body = plpgsql(&format!("begin {text}; end"));
            (body.sets.len(), body.sets_route)
        };
        assert_eq!(sets("set search_path = a"), (1, false));
        assert_eq!(sets("if a then set local role bob; end if"), (1, true));
        assert_eq!(
            sets("perform set_config('search_path', a, true)"),
            (1, false)
        );
        assert_eq!(sets("perform set_config(a, b, false)"), (2, true));
        assert_eq!(
            sets("set hg_enable_access_odps_orc_via_holo = on"),
            (0, true)
        );
        assert_eq!(sets("reset hg_enable_access_odps_orc_via_holo"), (0, true));
        assert_eq!(sets("execute a"), (0, true));
        let (settings, route) = sets("reset all");
        assert!(settings > 2 && route);
        for nothing in ["update t set role = 1", "set work_mem = 1", "select 1"] {
            assert_eq!(sets(nothing), (0, false), "{nothing}");
        }
        // By a parameter of the session that calls it, this is one string or two.
        let body = plpgsql(r"begin perform '\', count(*) from secret where a = '\'; end");
        assert!(names(&body.mentions).contains(&"secret".into()));
        let body = plpgsql(r"begin perform '\' || count(*) || '\' from secret; end");
        assert!(names(&body.mentions).contains(&"secret".into()));
    }
}
