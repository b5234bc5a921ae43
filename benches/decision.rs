//! What a decision costs among 10,000 known names: the median and the 99th percentile of single
//! calls, in microseconds. Run with `cargo bench --bench decision`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use osprey::protection::{NameContext, Snapshot};

mod common;

use common::many_protected;

const NAMES: usize = 10_000;

/// How often each text is decided, each time with another literal.
const RUNS: usize = 2_000;

/// About 350 bytes: three joins.
fn joins(table: &str, number: usize) -> String {
    format!(
        "SELECT c.customer_name, o.order_date, sum(l.extended_price * (1 - l.discount)) AS revenue \
         FROM customers c JOIN {table} o ON o.customer_key = c.customer_key \
         JOIN lineitem l ON l.order_key = o.order_key LEFT JOIN region r ON r.region_key = c.region_key \
         WHERE o.order_date >= date '2024-01-01' AND c.customer_key = {number} GROUP BY 1, 2 ORDER BY 3"
    )
}

/// About 4.6 KB: what a BI tool writes, CTE upon CTE.
fn report(table: &str, number: usize) -> String {
    let mut text = String::from("WITH base AS (SELECT * FROM plain)");
    for step in 0..10 {
        let _ = write!(
            text,
            ", step_{step} AS (SELECT t.customer_key, coalesce(sum(t.amount), 0) AS amount_{step}, \
             count(DISTINCT CASE WHEN t.status IN ('paid', 'shipped', 'done') THEN t.order_key END) AS orders_{step}, \
             max(date_trunc('month', t.order_date)) AS last_month_{step} FROM base t \
             LEFT JOIN dimension_{step} d ON d.key = t.key AND d.valid_from <= t.order_date \
             WHERE t.region = 'region {step}' AND (t.kind = 'a' OR t.kind = 'b') GROUP BY t.customer_key)"
        );
    }
    let _ = write!(
        text,
        " SELECT s.*, x.total FROM step_0 s JOIN step_1 USING (customer_key) JOIN {table} x \
         ON x.customer_key = s.customer_key WHERE x.customer_key = {number}"
    );
    text
}

fn one_kilobyte(number: usize) -> String {
    let mut text = joins("orders", number);
    text.push_str(" LIMIT 100");
    let select = text.replace("ORDER BY 3 LIMIT 100", "");
    format!("{select} UNION ALL {select} UNION ALL {text}")
}

fn insert(rows: usize, number: usize) -> String {
    let mut text = String::from("INSERT INTO plain (a, b, c) VALUES (0, 'x', 0)");
    for row in 0..rows {
        let _ = write!(text, ", ({row}, 'some text of row {row}', {number})");
    }
    text
}

fn measure(label: &str, snapshot: &Snapshot, again: bool, text: impl Fn(usize) -> String) {
    let names = NameContext {
        user: "app".into(),
        search_path: Some(vec!["$user".into(), "public".into(), "ext".into()]),
    };
    let runs = if text(0).len() > 50_000 {
        RUNS / 20
    } else {
        RUNS
    };
    let texts: Vec<String> = (0..runs)
        .map(|run| text(if again { 0 } else { run }))
        .collect();
    if again {
        snapshot.decide(texts[0].as_bytes(), &names);
    }
    let mut times: Vec<Duration> = texts
        .iter()
        .map(|text| {
            let start = Instant::now();
            black_box(snapshot.decide(black_box(text.as_bytes()), &names));
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let micros = |index: usize| times[index].as_secs_f64() * 1e6;
    println!(
        "{label:<44} {:>8} B {:>10.2} {:>10.2}",
        texts[0].len(),
        micros(runs / 2),
        micros(runs * 99 / 100)
    );
}

fn main() {
    let start = Instant::now();
    let many = many_protected(NAMES).build(1);
    println!(
        "snapshot of {NAMES} names built in {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    let few = many_protected(50).build(1);
    println!(
        "{:<44} {:>10} {:>10} {:>10}",
        "", "text", "median µs", "p99 µs"
    );
    let hit = "ext.ods_trade_00042_detail_di";
    measure("select 1", &many, true, |_| "select 1".into());
    measure("begin", &many, true, |_| "begin".into());
    measure("no name, 350 B", &many, false, |run| joins("orders", run));
    measure("no name, 1 KB", &many, false, one_kilobyte);
    measure("no name, 1 KB, seen before", &many, true, one_kilobyte);
    measure("no name, 1 KB, 50 names known", &few, false, one_kilobyte);
    measure("no name, 4.6 KB", &many, false, |run| report("orders", run));
    measure("no name, 4.6 KB, seen before", &many, true, |run| {
        report("orders", run)
    });
    measure("no name, INSERT of 200 KB", &many, false, |run| {
        insert(5_000, run)
    });
    measure("hit, 350 B, first sight", &many, false, |run| {
        joins(hit, run)
    });
    measure("hit, 350 B, seen before", &many, true, |run| {
        joins(hit, run)
    });
    measure("hit, 4.6 KB, first sight", &many, false, |run| {
        report(hit, run)
    });
    measure("hit, 4.6 KB, seen before", &many, true, |run| {
        report(hit, run)
    });
    measure("hit, INSERT of 200 KB", &many, false, |run| {
        insert(5_000, run) + " ON CONFLICT (a) DO UPDATE SET b = (SELECT max(b) FROM " + hit + ")"
    });
}
