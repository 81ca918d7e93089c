//! What describing a statement costs: by the parser, and from the cache.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use pcigate_sql::{Cache, Catalog, Session, classify};

const TEXTS: &[(&str, &str)] = &[
    ("pgbench -S", "SELECT abalance FROM pgbench_accounts WHERE aid = 1234;"),
    (
        "an ORM's join",
        "select o1_0.id,o1_0.amount,c1_0.id,c1_0.holder from orders o1_0 left join cards c1_0 \
         on c1_0.id=o1_0.card_id where o1_0.id=$1 and (o1_0.note like $2 or o1_0.note is null) \
         order by o1_0.id desc offset $3 rows fetch first $4 rows only",
    ),
    ("BEGIN", "BEGIN"),
];

fn main() {
    let session = Session::new("bot", &["public"]);
    let catalog = Catalog::default();
    for (name, text) in TEXTS {
        let miss = median(|| drop(black_box(classify(black_box(text), &session, &catalog))));
        let parse = median(|| drop(black_box(pg_query::parse(black_box(text), 0))));
        let mut cache = Cache::new(16 << 20);
        let hit = median(|| {
            drop(black_box(cache.classify(black_box(text), &session, &catalog, 1)));
        });
        println!("{name}: classify {miss} ns, of which the parser {parse} ns; remembered {hit} ns");
    }
    let mut cache = Cache::new(64 << 20);
    for number in 0..100_000 {
        let text = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number};");
        let _ = cache.classify(&text, &session, &catalog, 1);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("a cache of 64 MiB after 100,000 texts: {} remembered, {rss}", cache.len());
}

/// Nanoseconds of one call: the median of 31 rounds of 2,000.
fn median(mut call: impl FnMut()) -> u128 {
    let mut rounds: Vec<u128> = (0..31)
        .map(|_| {
            let start = Instant::now();
            (0..2000).for_each(|_| call());
            start.elapsed().as_nanos() / 2000
        })
        .collect();
    rounds.sort_unstable();
    rounds.get(15).copied().unwrap_or_default()
}
