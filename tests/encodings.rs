//! Client encodings as Osprey converts them, against what a real PostgreSQL makes of each character.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

mod common;

use common::postgres;
use osprey::protection::Encoding;

/// The characters of an encoding: all of two bytes, and of longer ones those that are likeliest to be
/// written. What PostgreSQL refuses is not among the answers.
const CHARACTERS: &str = "
CREATE FUNCTION characters(encoding text) RETURNS TABLE (bytes bytea, utf8 bytea)
LANGUAGE plpgsql AS $$
DECLARE
    candidate text;
BEGIN
    FOR candidate IN
        SELECT to_hex(one) FROM generate_series(128, 255) one
        UNION ALL
        SELECT to_hex(one) || lpad(to_hex(two), 2, '0')
        FROM generate_series(128, 255) one, generate_series(1, 255) two
        UNION ALL
        SELECT '8f' || to_hex(two) || to_hex(three)
        FROM generate_series(161, 254) two, generate_series(161, 254) three
        WHERE encoding LIKE 'EUC%'
        UNION ALL
        SELECT '8e' || to_hex(two) || to_hex(three) || to_hex(four)
        FROM generate_series(161, 167) two, generate_series(161, 254) three, generate_series(161, 254) four
        WHERE encoding = 'EUC_TW'
        UNION ALL
        SELECT to_hex(one) || to_hex(two) || to_hex(three) || to_hex(four)
        FROM unnest('{129,130,131,132,144,149,152}'::int[]) one, generate_series(48, 57) two,
             generate_series(129, 254) three, generate_series(48, 57) four
        WHERE encoding = 'GB18030'
    LOOP
        BEGIN
            bytes := decode(candidate, 'hex');
            utf8 := convert_to(convert_from(bytes, encoding), 'UTF8');
            IF char_length(convert_from(utf8, 'UTF8')) = 1 THEN
                RETURN NEXT;
            END IF;
        EXCEPTION WHEN OTHERS THEN
        END;
    END LOOP;
END
$$";

/// Of these, every character is converted.
const KNOWN: &[&str] = &[
    "BIG5",
    "EUC_CN",
    "EUC_JP",
    "EUC_KR",
    "GB18030",
    "GBK",
    "SJIS",
    "UHC",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "KOI8R",
    "KOI8U",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "WIN1250",
    "WIN1251",
    "WIN1252",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1256",
    "WIN1257",
    "WIN1258",
    "WIN866",
    "WIN874",
];

/// Of these, it is known where a character ends.
const MEASURED: &[&str] = &[
    "EUC_JIS_2004",
    "EUC_TW",
    "JOHAB",
    "MULE_INTERNAL",
    "SHIFT_JIS_2004",
];

#[tokio::test]
async fn each_character_is_the_one_that_postgresql_makes_of_it() {
    let cluster = postgres::shared();
    let client = cluster.database("encodings").await;
    client.batch_execute(CHARACTERS).await.unwrap();
    let mut wrong = Vec::new();
    for name in KNOWN.iter().chain(MEASURED) {
        let encoding = Encoding::named(name).unwrap();
        let rows = client
            .query("SELECT * FROM characters($1)", &[name])
            .await
            .unwrap();
        let mut unreadable = 0;
        for row in &rows {
            let (bytes, utf8): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
            // What stands behind a character is no part of it.
            let ours = encoding
                .to_server(&[&bytes, &b"'"[..]].concat())
                .into_owned();
            let ours = ours.strip_suffix(b"'").unwrap();
            if ours.contains(&0xff) {
                unreadable += 1;
            } else if ours != utf8 {
                let text = |utf8: &[u8]| String::from_utf8_lossy(utf8).escape_unicode().to_string();
                wrong.push(format!(
                    "{name}: {bytes:02x?} is {}, not {}",
                    text(&utf8),
                    text(ours)
                ));
            }
        }
        // What is not known costs the engine that is faster, so it must be little.
        let few = rows.len() / 30 + 32;
        if KNOWN.contains(name) && unreadable > few {
            wrong.push(format!(
                "{name}: {unreadable} of {} are not known",
                rows.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn names_of_encodings_are_postgresqls() {
    let cluster = postgres::shared();
    let client = cluster.connect("postgres").await;
    let aliases = [
        "abc",
        "alt",
        "Big-5",
        "euc_cn",
        "gb18030",
        "gbk",
        "iso-8859-1",
        "iso 8859-15",
        "johab",
        "koi8",
        "latin9",
        "mskanji",
        "Shift_JIS",
        "shift_jis_2004",
        "sjis",
        "sql_ascii",
        "tcvn",
        "tcvn-5712",
        "uhc",
        "unicode",
        "utf-8",
        "vscii",
        "win",
        "win1252",
        "win932",
        "win936",
        "win949",
        "win950",
        "windows-866",
        "windows874",
        "windows932",
        "windows936",
        "windows949",
        "windows950",
        "klingon",
    ];
    for alias in aliases.iter().chain(KNOWN).chain(MEASURED) {
        let question = "SELECT pg_encoding_to_char(pg_char_to_encoding($1::text::name))";
        let row = client.query_one(question, &[alias]).await.unwrap();
        let name: String = row.get(0);
        assert_eq!(
            Encoding::named(alias),
            Encoding::named(&name),
            "{alias} is {name:?}"
        );
    }
}
