//! Questions over real mutual TLS: the index against the plain reading of records, statements,
//! clients that do not read, retention and rebuilding.

use pcigate_proto::{
    Deletion, Exec, Exit, SqlReply, SqlRequest, sql_reply::Message as SqlMessage,
    sql_value::Value as Case,
};

use super::*;
use crate::{evidence::Filter, indexer, ledger::OpenError, reindex, retention::Retention};

/// A rows' worth of variety: kinds, pods, verdicts, programs, destinations, times.
fn various(seq: u64) -> Record {
    let plain = record(seq, ["pay", "web", "ci"][usize::try_from(seq % 3).unwrap()], 443);
    let process = Process {
        executable: ["/usr/bin/curl", "/bin/sh", ""][usize::try_from(seq % 3).unwrap()].into(),
        ..plain.process.clone().unwrap()
    };
    let verdict = [Verdict::Allow, Verdict::Deny, Verdict::Unspecified];
    let outcome = Outcome {
        verdict: verdict[usize::try_from(seq % 3).unwrap()].into(),
        ..plain.outcome.clone().unwrap()
    };
    let event = match seq % 4 {
        0 => Event::Exit(Exit { code: 1, signal: 0 }),
        1 => Event::Exec(Exec { path: format!("/usr/bin/tool{}", seq % 7), ..<_>::default() }),
        2 => Event::Egress(Egress {
            protocol: "tcp".into(),
            address: format!("10.0.{}.1", seq % 5),
            port: 443,
            ..<_>::default()
        }),
        _ => Event::Egress(Egress {
            protocol: "udp".into(),
            address: "fd00::1".into(),
            port: 53,
            ..<_>::default()
        }),
    };
    Record { process: Some(process), outcome: Some(outcome), event: Some(event), ..plain }
}

async fn site_with(records: impl IntoIterator<Item = Record>) -> Site {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let records = bytes(&records.into_iter().collect::<Vec<_>>());
    let mut first = 1;
    for some in records.chunks(100) {
        agent.batch(first, some.to_vec()).await.unwrap();
        first += some.len() as u64;
    }
    site
}

/// Questions that leave the Query records of other questions out.
fn questions() -> Vec<QueryRequest> {
    let kinds = |kinds: &[&str]| QueryRequest {
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        limit: 1_000,
        ..<_>::default()
    };
    let all = || kinds(&["exec", "exit", "egress", "received", "coverage"]);
    vec![
        all(),
        QueryRequest { limit: 7, ..all() },
        kinds(&["egress"]),
        QueryRequest { namespace: "pay".into(), ..all() },
        QueryRequest { pod: "bot-1".into(), verdict: Verdict::Deny.into(), ..all() },
        QueryRequest { service_account: "nobody".into(), ..all() },
        QueryRequest { executable: "/usr/bin/*".into(), ..all() },
        QueryRequest { executable: "*tool3".into(), ..all() },
        QueryRequest { destination: "10.0.2.0/24".into(), ..all() },
        QueryRequest { destination: "10.0.1.1:443".into(), ..all() },
        QueryRequest { destination: ":53".into(), ..all() },
        QueryRequest { destination: "fd00::/16".into(), ..all() },
        QueryRequest { node: "n1".into(), ..all() },
        QueryRequest { since_unix_nano: 1_050, until_unix_nano: 1_060, ..all() },
    ]
}

#[tokio::test]
async fn the_index_answers_every_question_as_the_records_themselves_do() {
    let site = site_with((1..=600).map(various)).await;
    for request in questions() {
        let filter = Filter::new(&request).unwrap();
        let (rows, summary) = query(&site, request.clone()).await;
        let (source, _) = site.ledger();
        let size = summary.tree_size;
        let matching: Vec<Row> = pcigate_ledger::entries(&source, size, 0..size)
            .map(Result::unwrap)
            .map(|(index, record)| Row { index, record })
            .filter(|row| filter.matches(&Record::decode(row.record.as_slice()).unwrap()))
            .collect();
        assert_eq!(summary.matched, matching.len() as u64, "{request:?}");
        let newest = &matching[matching.len().saturating_sub(filter.limit)..];
        assert_eq!(rows, newest, "{request:?}");
    }
    soon(site.running.stop()).await.unwrap();
}

async fn sql(site: &Site, request: SqlRequest) -> Result<Vec<SqlMessage>, Status> {
    let mut replies = soon(site.person().await.sql(request)).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(SqlReply { message }) = soon(replies.message()).await? {
        messages.push(message.unwrap());
    }
    Ok(messages)
}

fn statement(statement: &str) -> SqlRequest {
    SqlRequest { statement: statement.to_owned(), ..<_>::default() }
}

/// The values of the rows.
fn values(messages: &[SqlMessage]) -> Vec<Vec<Option<Case>>> {
    let row = |message: &SqlMessage| match message {
        SqlMessage::Row(row) => Some(row.values.iter().map(|v| v.value.clone()).collect()),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

#[tokio::test]
async fn a_statement_is_recorded_as_a_whole_and_answered_with_leaves_that_can_be_read() {
    let site = site_with((1..=300).map(various)).await;
    let asked = "SELECT leaf, namespace, port FROM records WHERE kind = 'egress' ORDER BY leaf";
    let limited = SqlRequest { limit: 3, ..statement(asked) };
    let messages = sql(&site, limited).await.unwrap();
    let SqlMessage::Columns(columns) = &messages[0] else { panic!("{:?}", messages[0]) };
    let names: Vec<_> = columns.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["leaf", "namespace", "port"]);
    let rows = values(&messages);
    assert_eq!(rows.len(), 3);
    let Some(SqlMessage::Summary(summary)) = messages.last() else { panic!("no summary") };
    assert_eq!((summary.rows, summary.cut), (3, true));
    let Some(Case::Unsigned(leaf)) = rows[0][0] else { panic!("{:?}", rows[0]) };
    let proof = site.person().await.prove(ProveRequest { index: leaf }).await.unwrap();
    let proved = Record::decode(proof.into_inner().record.as_slice()).unwrap();
    assert!(matches!(proved.event, Some(Event::Egress(_))), "{proved:?}");
    let (records, _) =
        query(&site, QueryRequest { kinds: vec!["query".into()], ..<_>::default() }).await;
    let first = Record::decode(records[0].record.as_slice()).unwrap();
    let Some(Event::Query(event)) = first.event else { panic!("no query") };
    assert_eq!((event.operation.as_str(), event.filter.as_str()), ("sql", asked));
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_or_writing_statement_is_refused_with_a_sentence_without_card_data() {
    let site = site_with([record(1, "pay", 1)]).await;
    for (text, part) in [
        ("SELEC 1", ""),
        ("SELECT nam FROM records", "nam"),
        ("SELECT leaf FROM records WHERE 4111111111111111 = nam", "nam"),
        ("DROP TABLE records", ""),
        ("SELECT 1; SELECT 2", ""),
        ("COPY records TO '/tmp/out.csv'", ""),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", ""),
    ] {
        let status = sql(&site, statement(text)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{text}: {status}");
        assert!(status.message().contains(part), "{text}: {status}");
        assert!(!status.message().contains("4111111111111111"), "{status}");
    }
    let refused = SqlRequest { limit: 1_000_001, ..statement("SELECT 1") };
    assert_eq!(sql(&site, refused).await.unwrap_err().code(), Code::InvalidArgument);
    let plan = sql(&site, SqlRequest { explain: true, ..statement("SELECT leaf FROM records") });
    assert!(matches!(plan.await.unwrap().as_slice(), [SqlMessage::Plan(plan)] if !plan.is_empty()));
    let mut replies = site.person().await;
    let request = QueryRequest { explain: true, pod: "bot-1".into(), ..<_>::default() };
    let mut replies = replies.query(request).await.unwrap().into_inner();
    let reply = soon(replies.message()).await.unwrap().unwrap();
    assert!(matches!(reply.message, Some(Reply::Plan(plan)) if !plan.is_empty()));
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn clients_that_do_not_read_their_answers_keep_nobody_from_reading() {
    let large = |seq| {
        let event = Exec { path: "/x".into(), args: vec!["y".repeat(25_000)], ..<_>::default() };
        Record { event: Some(Event::Exec(event)), ..record(seq, "pay", 1) }
    };
    let site = site_with((1..=400).map(large)).await;
    let mut idle = Vec::new();
    for _ in 0..12 {
        let all = QueryRequest { kinds: vec!["exec".into()], ..<_>::default() };
        let mut person = site.person().await;
        let mut replies = person.query(all).await.unwrap().into_inner();
        // The answer has begun, and nobody takes the rest of its ten megabytes.
        next_row(&mut replies).await;
        let statement = statement("SELECT leaf, command FROM records WHERE kind = 'exec'");
        let mut rows = person.sql(statement).await.unwrap().into_inner();
        soon(rows.message()).await.unwrap().unwrap();
        idle.push((person, replies, rows));
    }
    let (rows, summary) =
        query(&site, QueryRequest { kinds: vec!["exec".into()], limit: 2, ..<_>::default() }).await;
    assert_eq!((rows.len(), summary.matched), (2, 400));
    let counted = sql(&site, statement("SELECT count(*) FROM records WHERE kind = 'exec'"));
    assert_eq!(values(&counted.await.unwrap()), [[Some(Case::Integer(400))]]);
    site.person().await.prove(ProveRequest { index: 3 }).await.unwrap();
    drop(idle);
    soon(site.running.stop()).await.unwrap();
}

/// What all questions and statements answer.
async fn all_answers(site: &Site) -> Vec<String> {
    let mut answers = Vec::new();
    for request in questions() {
        // The coverage records of a restart are new.
        let kinds = request.kinds.iter().filter(|kind| *kind != "coverage").cloned().collect();
        let request = QueryRequest { kinds, ..request };
        let (rows, summary) = query(site, request).await;
        answers.push(format!("{} {rows:?}", summary.matched));
    }
    for text in [
        "SELECT kind, verdict, count(*) FROM records WHERE kind <> 'query' AND kind <> 'coverage' \
         GROUP BY kind, verdict ORDER BY kind, verdict",
        "SELECT * FROM records WHERE kind = 'egress' ORDER BY leaf",
    ] {
        answers.push(format!("{:?}", values(&sql(site, statement(text)).await.unwrap())));
    }
    answers
}

#[tokio::test]
async fn an_index_built_anew_gives_the_same_answers() {
    let mut site = site_with((1..=700).map(various)).await;
    let before = all_answers(&site).await;
    let config = Site::config(&site.dir);
    let running = reindex::run(&config, |_, _| ()).unwrap_err();
    let reindex::Error::Ledger { source } = running else { panic!("{running}") };
    assert!(matches!(*source, OpenError::InUse { .. }), "{source}");
    soon(site.running.stop()).await.unwrap();
    let mut last = (0, 0);
    let size = reindex::run(&config, |done, all| last = (done, all)).unwrap();
    assert_eq!(last, (size, size));
    site.running = Site::start(&site.dir).await;
    assert_eq!(all_answers(&site).await, before);
    // A damaged file and a lost manifest are the same as no index.
    for name in ["events", "manifest"] {
        soon(site.running.stop()).await.unwrap();
        damage(&indexer::directory(&config.state_dir), name);
        site.running = Site::start(&site.dir).await;
        assert_eq!(all_answers(&site).await, before);
    }
    soon(site.running.stop()).await.unwrap();
}

/// Cuts the last byte off the first file whose path holds the name.
fn damage(dir: &std::path::Path, name: &str) {
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.to_string_lossy().contains(name) {
                let content = std::fs::read(&path).unwrap();
                std::fs::write(&path, &content[..content.len() - 1]).unwrap();
                return;
            }
        }
    }
    panic!("no {name} in {}", dir.display());
}

#[test]
fn there_is_nothing_to_reindex_without_a_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let refused = reindex::run(&Site::config(&dir), |_, _| ()).unwrap_err();
    assert!(refused.to_string().contains("there is no ledger"), "{refused}");
    assert!(!dir.path().join("state").exists(), "nothing was made");
}

#[tokio::test]
async fn what_is_old_leaves_the_index_with_a_record_of_it_and_stays_in_the_ledger() {
    let mut site = site_with((1..=40).map(various)).await;
    soon(site.running.stop()).await.unwrap();
    let retained = pcigate_policy::yaml::read_one("c", "retention: {egress: 365d}").unwrap();
    let mut mistakes = pcigate_policy::yaml::Mistakes::default();
    let mut top = pcigate_policy::yaml::Fields::of(&retained, "", &mut mistakes);
    let retention = Retention::read(&mut top);
    let config = Config { retention, ..Site::config(&site.dir) };
    site.running = start(config).await.unwrap();
    let asked = || QueryRequest { kinds: vec!["deletion".into()], ..<_>::default() };
    let deletion = loop {
        let (rows, _) = query(&site, asked()).await;
        if let Some(row) = rows.first() {
            break Record::decode(row.record.as_slice()).unwrap();
        }
    };
    assert_eq!(pcigate_proto::record::check_complete(&deletion), Ok(()));
    let Some(Event::Deletion(Deletion { class, before_unix_nano, records })) = deletion.event
    else {
        panic!("{deletion:?}")
    };
    assert_eq!((class.as_str(), records), ("egress", 20));
    assert_eq!(before_unix_nano % 3_600_000_000_000, 0);
    let (rows, summary) =
        query(&site, QueryRequest { kinds: vec!["egress".into()], ..<_>::default() }).await;
    assert_eq!((rows.len(), summary.matched), (0, 0));
    let (_, others) =
        query(&site, QueryRequest { kinds: vec!["exec".into()], ..<_>::default() }).await;
    assert_eq!(others.matched, 10);
    let proof = site.person().await.prove(ProveRequest { index: 2 }).await.unwrap().into_inner();
    let kept = Record::decode(proof.record.as_slice()).unwrap();
    assert!(matches!(kept.event, Some(Event::Egress(_))), "the ledger keeps it: {kept:?}");
    // The next pass and an index built anew find nothing more to do.
    soon(site.running.stop()).await.unwrap();
    let config = Site::config(&site.dir);
    reindex::run(&config, |_, _| ()).unwrap();
    site.running = Site::start(&site.dir).await;
    let (_, egress) =
        query(&site, QueryRequest { kinds: vec!["egress".into()], ..<_>::default() }).await;
    let (_, deletions) = query(&site, asked()).await;
    assert_eq!((egress.matched, deletions.matched), (0, 1));
    soon(site.running.stop()).await.unwrap();
}
