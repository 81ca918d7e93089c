//! Tests of what a session's records say, whatever the gateway's process says.

use std::sync::Mutex;

use pcigate_policy::{document::Effect, mask::Kind};
use pcigate_proto::Message;
use tempfile::TempDir;

use super::*;
use crate::{
    draft::{record_of, samples},
    gateway::live::tests::{POLICY, gate},
    recorder::{self, Recorder},
    spool::{Limits, Spool},
};

const PAN: &str = "4111111111111111";

struct Site {
    recorder: Recorder,
    timings: Timings,
    _directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let spool = Spool::open(directory.path(), Limits::default()).unwrap();
        let recorder = recorder::start(Arc::new(Mutex::new(spool)), "n1".to_owned()).unwrap();
        Self { recorder, timings: Timings::new(), _directory: directory }
    }

    fn recording(&self) -> Recording {
        let Subject::Workload(workload) = samples::workload("bot") else { panic!("a workload") };
        let process = samples::process("/usr/bin/psql");
        let actor = Actor { workload, process, digest: None, policy_hash: [0; 8] };
        let original = "10.0.0.5:5432".parse().unwrap();
        let door = (self.recorder.handle(), self.timings.clone());
        Recording::new(actor, gate(POLICY), original, door)
    }

    fn recorded(&self) -> u64 {
        self.recorder.handle().counters().recorded
    }
}

/// Everything a faulty or hostile process can say, with a card number in each text.
fn hostile() -> Vec<Told> {
    let pan = || PAN.to_owned();
    vec![
        Told::Started(Box::new(told::Started {
            database: pan(),
            user: pan(),
            role: pan(),
            application: pan(),
            client: pan(),
            client_tls: true,
            identity: Some((pan(), pan())),
            masked: Vec::new(),
        })),
        Told::Statement(Box::new(told::Statement {
            number: 0,
            step: Step::Query,
            command: pan(),
            text: pan(),
            text_bytes: 0,
            parameters: vec![Some(pan()), None],
            effects: vec![Effect::Read],
            tables: vec![pan()],
            verdict: StatementAction::Allow,
            rule: Some(pan()),
            reason: pan(),
            request_key: None,
            deciding: std::time::Duration::from_micros(70),
            masked: Vec::new(),
        })),
        Told::StatementEnd(told::End { sqlstate: Some(pan()), ..told::End::default() }),
        Told::Traffic(told::Traffic { from_client: true, text: pan(), masked: Vec::new() }),
        Told::Truncated { limit: 4_111_111_111_111_111 },
        Told::Ended(Box::new(told::Ended { why: pan(), ..told::Ended::default() })),
    ]
}

#[test]
fn what_the_gateway_claims_is_masked_is_masked_again_and_in_the_name_the_agent_knows() {
    let site = Site::new();
    let mut recording = site.recording();
    for told in hostile() {
        let shown = format!("{told:?}");
        let draft = recording.draft(told);
        let record = record_of(&draft, "n1", &[1; 16], 1);
        let bytes = record.encode_to_vec();
        let holds = bytes.windows(PAN.len()).any(|window| window == PAN.as_bytes());
        assert!(!holds, "{shown}");
        pcigate_proto::record::check_complete(&record).unwrap();
        let Some(pcigate_proto::record::Subject::Workload(workload)) = record.subject else {
            panic!("{shown}")
        };
        assert_eq!(workload.pod, "bot");
    }
}

#[test]
fn a_statement_without_a_rule_s_name_has_the_default_s() {
    let site = Site::new();
    let mut told = hostile().remove(1);
    let Told::Statement(statement) = &mut told else { panic!("a statement") };
    statement.rule = Some(String::new());
    let draft = site.recording().draft(told);
    let record = record_of(&draft, "n1", &[1; 16], 1);
    pcigate_proto::record::check_complete(&record).unwrap();
    assert_eq!(draft.outcome.decision.unwrap().rule.id.as_str(), "default");
}

#[test]
fn what_the_gateway_has_masked_is_counted_though_nothing_of_it_is_left() {
    let site = Site::new();
    let masked = vec![(Kind::Pan, 3), (Kind::Cvv, 1)];
    let traffic = told::Traffic { from_client: false, text: "411111******1111".to_owned(), masked };
    let draft = site.recording().draft(Told::Traffic(traffic));
    let counts = record_of(&draft, "n1", &[1; 16], 1).masked;
    let counts: Vec<_> = counts.iter().map(|one| one.count).collect();
    assert_eq!(counts, [3, 1]);
}

#[tokio::test]
async fn a_session_has_one_end_whoever_says_it() {
    let site = Site::new();
    let mut recording = site.recording();
    let mut all = hostile();
    let ended = all.pop().unwrap();
    assert!(recording.record(vec![all.remove(0), ended], true).await);
    assert_eq!(site.recorded(), 2);
    recording.broke_off("the gateway's process is gone").await;
    recording.left(true).await;
    assert_eq!(site.recorded(), 2, "it said so itself");

    let mut silent = site.recording();
    assert!(silent.record(vec![hostile().remove(0)], true).await);
    silent.left(true).await;
    assert_eq!(site.recorded(), 4, "the agent says it");

    site.recording().left(false).await;
    assert_eq!(site.recorded(), 4, "nothing was asked, and nobody reached");
    site.recording().left(true).await;
    assert_eq!(site.recorded(), 5, "a request to cancel");
}
