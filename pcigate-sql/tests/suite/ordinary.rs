//! What ordinary clients send passes under the rules one would write for them.

use crate::rules::site;

/// An application that owns its schema: reads, writes and migrates, but copies nothing out.
const APPLICATION: &str = "{id: app, action: allow, effects: [read, write, ddl], \
     tables: [public.*, pg_temp.*]}, \
     {id: schema, action: allow, effects: [ddl, session]}, \
     {id: catalog, action: allow, effects: [read], \
      tables: [pg_catalog.*, information_schema.*, pg_catalog.pg_foreign_server, \
               pg_catalog.pg_user_mapping, pg_catalog.pg_subscription]}";

/// The same, for what also empties tables and makes functions.
const OWNER: &str = "{id: own, action: allow, effects: [read, write, ddl], \
     tables: [public.*], shapes: [noWhere]}, {id: server, action: allow, effects: [ddl]}, \
     {id: catalog, action: allow, effects: [read], tables: [pg_catalog.*]}";

fn texts(file: &'static str) -> impl Iterator<Item = &'static str> {
    let body = file.split_once('\n').map_or("", |(_, body)| body);
    body.split("\n-- next\n")
}

fn all_pass(rules: &str, file: &'static str) {
    let mut site = site(rules);
    let mut refused = Vec::new();
    let mut count = 0;
    for text in texts(file) {
        count += 1;
        let answer = site.answer(text);
        if !answer.sentence.is_empty() {
            refused.push((answer.sentence, text));
        }
    }
    println!("{count} texts");
    assert!(refused.is_empty(), "{} of {count} refused: {refused:#?}", refused.len());
}

#[test]
fn everything_psql_asks_of_the_catalog_passes() {
    all_pass(APPLICATION, include_str!("traffic/psql.sql"));
}

#[test]
fn pgbench_passes_with_its_initialisation() {
    all_pass(OWNER, include_str!("traffic/pgbench.sql"));
}

#[test]
fn python_drivers_and_sqlalchemy_pass() {
    all_pass(APPLICATION, include_str!("traffic/python.sql"));
}

#[test]
fn django_passes_with_its_migrations() {
    all_pass(APPLICATION, include_str!("traffic/django.sql"));
}

#[test]
fn drivers_and_mappers_of_other_languages_pass() {
    all_pass(APPLICATION, include_str!("traffic/others.sql"));
}
