//! What the body of a function or of DO may touch when it runs.
//!
//! A body in SQL is read as any text is. One in PL/pgSQL is SQL among words of its own, in which
//! any expression is a query without its SELECT (`RETURN count(*) FROM t`); so no walk through its
//! grammar is tried: whatever stands where only a relation can stand, or where one cannot be told
//! from a column, counts. Variables, labels, types and comments do not stand there, and strings
//! matter only in a body that runs text.

use super::function;
use super::keyword::Keyword as K;
use super::lexer::Kind;
use super::mention::{mention_all, mention_strings};
use super::relations::{last_part, relation_name};
use super::token::{Script, Statement};
use super::{Analysis, RelationName, analyze, written};
use crate::protection::{Effects, Written};

/// A name in a body.
pub(crate) type Reference = Written;

/// What a function's body may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Body {
    /// Relations that it may read, and what else may be a relation or a function.
    pub(crate) mentions: Vec<Reference>,
    /// Relations that it may write or refresh.
    pub(crate) writes: Vec<Reference>,
    /// Functions that it calls, other than PostgreSQL's and Hologres' own.
    pub(crate) calls: Vec<Reference>,
    /// Functions that it calls by a name of PostgreSQL's and Hologres' own, without a schema.
    pub(crate) own_calls: Vec<Reference>,
    /// Names in its strings, which count if it runs text.
    pub(crate) in_strings: Vec<Reference>,
    /// It runs text of its own making, or calls one of PostgreSQL's functions that does.
    pub(crate) runs_text: bool,
    /// Beside its calls, it does nothing but read.
    pub(crate) only_reads: bool,
}

/// Reads the body of a function in `language`; `None`: it is not one that can be read.
pub(crate) fn read(text: &str, language: &str) -> Option<Body> {
    let analysis = match language {
        "sql" => {
            let mut all = Analysis::default();
            for one in analyze(text.as_bytes()).statements {
                all.add(one.effects);
                all.runs_text |= one.runs_text || one.reads_anything;
                all.mentions.extend(one.mentions);
                all.mentions.extend(one.reads);
                all.writes.extend(one.writes);
                all.calls.extend(one.calls);
                all.own_calls.extend(one.own_calls);
            }
            strings(text.as_bytes(), &mut all);
            all
        }
        "plpgsql" => {
            let mut analysis = Analysis::default();
            read_plpgsql(text.as_bytes(), &mut analysis);
            analysis
        }
        _ => return None,
    };
    let names = |names: &[RelationName<'_>]| names.iter().map(written).collect();
    let only_reads = !analysis.runs_text && analysis.effects == Effects::default();
    Some(Body {
        mentions: names(&analysis.mentions),
        writes: names(&analysis.writes),
        calls: names(&analysis.calls),
        own_calls: names(&analysis.own_calls),
        in_strings: names(&analysis.in_strings),
        runs_text: analysis.runs_text,
        only_reads,
    })
}

/// Every name in the strings of a text, whether they may be run or not: that depends on what the
/// functions do that it calls.
fn strings<'a>(text: &'a [u8], analysis: &mut Analysis<'a>) {
    for statement in Script::read(text).statements() {
        mention_strings(&statement, &mut analysis.in_strings);
    }
}

/// The body of DO, of which nothing but the text is known.
pub(super) fn read_do<'a>(body: &'a [u8], analysis: &mut Analysis<'a>) {
    let calls = analysis.calls.len();
    let strings = analysis.in_strings.len();
    read_plpgsql(body, analysis);
    if !analysis.runs_text && analysis.calls.len() == calls {
        analysis.in_strings.truncate(strings);
    }
}

fn read_plpgsql<'a>(text: &'a [u8], analysis: &mut Analysis<'a>) {
    for statement in Script::read(text).statements() {
        mention_strings(&statement, &mut analysis.in_strings);
        if statement.broken {
            mention_all(&statement, false, &mut analysis.mentions);
        }
        read_chunk(&statement, analysis);
    }
}

/// What stands between two semicolons.
fn read_chunk<'a>(statement: &Statement<'_, 'a>, analysis: &mut Analysis<'a>) {
    // A comma parts relations only behind what begins a list of them.
    let mut listing = false;
    let mut merging = false;
    let mut index = 0;
    while index < statement.len() {
        let keyword = statement.keyword(index);
        merging |= keyword == K::Merge;
        listing |= begins_list(keyword);
        if keyword == K::Execute {
            analysis.runs_text = true;
        }
        if changes(keyword) || is_other_change(statement, index) {
            analysis.add(Effects::WRITES);
        }
        if !statement.is_name(index) {
            index += 1;
            continue;
        }
        let last = last_part(statement, index);
        match place(statement, index, listing, merging) {
            Place::Read => analysis
                .mentions
                .extend(relation_name(statement, index, last)),
            Place::Written => analysis
                .writes
                .extend(relation_name(statement, index, last)),
            Place::Both => {
                let name = relation_name(statement, index, last);
                analysis.writes.extend(name.clone());
                analysis.mentions.extend(name);
            }
            Place::Neither => {}
        }
        let is_target = place(statement, index, listing, merging) == Place::Written;
        if statement.bytes(last + 1) == b"(" && !is_target && !is_plpgsql_word(statement, last) {
            function::call(statement, last, analysis);
        }
        index = last + 1;
    }
}

/// What a name is, by what stands before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Read,
    Written,
    Both,
    Neither,
}

fn place(statement: &Statement<'_, '_>, index: usize, listing: bool, merging: bool) -> Place {
    let mut before = index;
    while before > 0 && statement.bytes(before - 1) == b"(" {
        before -= 1;
    }
    let Some(before) = before.checked_sub(1) else {
        return Place::Neither;
    };
    if statement.kind(before) == Some(Kind::Comma) {
        return if listing { Place::Read } else { Place::Neither };
    }
    match statement.keyword(before) {
        K::Into if merging => Place::Both,
        K::Into | K::Overwrite => Place::Written,
        K::Update | K::View | K::Table | K::Only => Place::Both,
        K::From if before > 0 && statement.keyword(before - 1) == K::Delete => Place::Both,
        K::From
        | K::Join
        | K::Using
        | K::Lateral
        | K::Copy
        | K::Analyze
        | K::Analyse
        | K::Vacuum
        | K::Verbose => Place::Read,
        _ if statement.is_word(before, "concurrently") => Place::Both,
        _ if statement.is_word(before, "full") || statement.is_word(before, "freeze") => {
            Place::Read
        }
        _ => Place::Neither,
    }
}

/// Words behind which relations may stand in a list.
fn begins_list(keyword: K) -> bool {
    matches!(
        keyword,
        K::From | K::Using | K::Join | K::Update | K::Analyze | K::Analyse | K::Vacuum | K::Table
    )
}

/// Words of which one makes a body more than a reading one, wherever it stands.
fn changes(keyword: K) -> bool {
    matches!(
        keyword,
        K::Insert
            | K::Update
            | K::Delete
            | K::Merge
            | K::Truncate
            | K::Create
            | K::Alter
            | K::Drop
            | K::Copy
            | K::Call
            | K::Set
            | K::Reset
            | K::Grant
            | K::Revoke
            | K::Comment
            | K::Lock
            | K::Refresh
            | K::Import
            | K::Execute
            | K::Do
            | K::Commit
            | K::Rollback
            | K::Vacuum
            | K::Analyze
            | K::Analyse
            | K::Discard
            | K::Prepare
            | K::Share
            | K::Deallocate
    )
}

fn is_other_change(statement: &Statement<'_, '_>, index: usize) -> bool {
    super::statement::HARMLESS_TO_READ
        .iter()
        .any(|word| statement.is_word(index, word))
}

/// Words of PL/pgSQL behind which a parenthesis may stand.
fn is_plpgsql_word(statement: &Statement<'_, '_>, index: usize) -> bool {
    [
        "assert", "call", "cursor", "elseif", "elsif", "execute", "exit", "loop", "next",
        "perform", "query", "return", "strict", "while",
    ]
    .iter()
    .any(|word| statement.is_word(index, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(references: &[Reference]) -> Vec<String> {
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
    }
}
