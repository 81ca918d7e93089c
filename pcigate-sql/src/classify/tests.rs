//! What is said of single statements: outputs, places, COPY.

use super::*;
use crate::CopyEnd;
use crate::catalog::Relation;

fn one(text: &str) -> Statement {
    let mut catalog = Catalog::default();
    let columns = vec!["id".to_owned(), "pan".to_owned()];
    catalog.add("public", "cards", Relation { columns, definition: None });
    let definition = Some("SELECT pan AS n, id FROM public.cards".to_owned());
    catalog.add("public", "v", Relation { columns: vec!["n".into(), "id".into()], definition });
    let session = Session::new("u", &["public"]);
    classify(text, &session, &catalog).unwrap().pop().unwrap()
}

fn sources(text: &str) -> Vec<String> {
    let outputs = one(text).outputs.unwrap();
    let name = |output: &crate::Output| {
        let of = output.sources.iter().map(|source| {
            let column = source.column.as_deref().unwrap_or("*");
            format!("{}.{column}", source.tables[0].name)
        });
        format!("{}{}", of.collect::<Vec<_>>().join("+"), if output.plain { "" } else { "!" })
    };
    outputs.iter().map(name).collect()
}

#[test]
fn each_column_of_an_answer_says_where_it_comes_from() {
    assert_eq!(sources("SELECT * FROM cards"), ["cards.id", "cards.pan"]);
    assert_eq!(sources("SELECT x.n FROM v AS x"), ["v.n+cards.pan"]);
    assert_eq!(
        sources("WITH w AS (TABLE v) SELECT n, id + 1 FROM w"),
        ["v.n+cards.pan", "v.id+cards.id!"]
    );
    assert_eq!(sources("COPY cards (pan) TO STDOUT"), ["cards.pan"]);
    assert_eq!(sources("SELECT pan FROM cards UNION SELECT 'x'"), ["cards.pan!"]);
    assert_eq!(sources("DELETE FROM cards WHERE id = 1 RETURNING pan"), ["cards.pan"]);
}

#[test]
fn a_statement_says_what_it_is_and_where_it_stands() {
    let copy = one("COPY cards TO PROGRAM 'x'").copy.unwrap();
    assert!(copy.from_server && copy.end == CopyEnd::Program);
    assert!(one("SELECT 1 FROM cards").no_limit && !one("SELECT 1 FROM cards LIMIT 1").no_limit);
    let text = "SELECT 1; SELECT 'é'";
    let place = one(text).place;
    assert_eq!(text[place].trim(), "SELECT 'é'");
}
