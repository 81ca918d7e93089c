//! Drafts become complete records, whatever they hold.

use pcigate_proto::record::{Event as ProtoEvent, RECORD_BYTES_MAX, check_complete};
use pcigate_proto::{Message, Record};
use proptest::prelude::*;

use super::samples::{exec, masked, process, refused_connect, workload};
use super::*;

const EPOCH: [u8; 16] = [7; 16];

fn decoded(draft: &Draft) -> Record {
    let bytes = encode(draft, "n1", &EPOCH, 9);
    assert!(bytes.len() <= RECORD_BYTES_MAX, "{} bytes", bytes.len());
    Record::decode(bytes.as_slice()).unwrap()
}

fn text() -> impl Strategy<Value = Masked> {
    prop_oneof![
        Just(masked("")),
        "[a-z/]{1,40}".prop_map(|text| masked(&text)),
        prop::collection::vec(any::<u8>(), 0..6000)
            .prop_map(|bytes| Masked::new(&bytes, pcigate_policy::mask::Cut::End)),
        (0..40_000_usize).prop_map(|len| masked(&"ü".repeat(len))),
    ]
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        text().prop_map(|text| workload(text.as_str())),
        text().prop_map(|cgroup_path| Subject::Unknown { cgroup_id: 3, cgroup_path }),
        Just(Subject::Agent),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let ending = prop_oneof![Just(Ending::Success), Just(Ending::Refused), Just(Ending::Failed)];
    (ending, text()).prop_map(|(result, text)| {
        let rule = Arc::new(Rule { policy: text.clone(), id: text });
        let decided = Decided { verdict: Verdict::Deny, rule };
        Outcome {
            result,
            decision: Some(decided.clone()),
            enforcement: Some(Enforcement::Lsm),
            audit: Some(decided),
            policy_hash: Some([9; 8]),
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (text(), text(), text()).prop_map(|(path, invoked, args)| Event::Exec(Exec {
            path,
            invoked: Some(invoked),
            args,
            args_truncated: true,
            args_unavailable: false,
            path_unresolved: true,
            args_bytes: u32::MAX,
        })),
        Just(Event::Fork { child_pid: u32::MAX, child_start_boottime_ns: u64::MAX }),
        Just(Event::Exit { code: 0, signal: 0 }),
        (any::<[u8; 16]>(), any::<u32>(), any::<u16>()).prop_map(|(address, protocol, port)| {
            Event::Egress {
                operation: Operation::Send,
                protocol,
                address: address.into(),
                port,
                v4_mapped: true,
            }
        }),
        (1..u64::MAX).prop_map(|count| {
            Event::Lost(Lost { count, reason: LostReason::RingFull, queue: Queue::Verdicts })
        }),
        (text(), text(), 0..100_usize).prop_map(|(message, reason, count)| Event::Coverage {
            state: CoverageState::Change,
            message,
            capabilities: vec![
                Capability {
                    name: "egress-tcp-udp",
                    state: CapabilityState::NotEnforceableHere,
                    reason,
                };
                count
            ],
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_draft_is_a_complete_record_that_fits(
        subject in subject(),
        executable in text(),
        outcome in outcome(),
        event in event(),
        node in "[a-z0-9.-]{1,253}",
    ) {
        let process = Some(process(executable.as_str()));
        let kernel = Some((u32::MAX, u64::MAX));
        let draft = Draft { time_unix_nano: u64::MAX, kernel, subject, process, outcome, event };
        let bytes = encode(&draft, &node, &[255; 16], u64::MAX);
        prop_assert!(bytes.len() <= RECORD_BYTES_MAX, "{} bytes", bytes.len());
        let record = Record::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(check_complete(&record), Ok(()));
        prop_assert_eq!(record.encode_to_vec(), bytes);
    }
}

#[test]
fn the_largest_exec_fits_and_says_that_it_was_cut() {
    let long = "€".repeat(20_000);
    let mut draft = exec(&[long.as_str(); 3].join("\0"));
    draft.subject = workload(&long);
    draft.process = Some(process(&long));
    let Event::Exec(exec) = &mut draft.event else { unreachable!() };
    exec.path = masked(&long);
    exec.invoked = Some(masked(&long));
    let record = decoded(&draft);
    let Some(ProtoEvent::Exec(exec)) = record.event else { unreachable!() };
    assert!(exec.args_truncated);
    assert!(exec.path.ends_with('…'));
}

#[test]
fn arguments_that_are_all_empty_are_counted_in_the_size() {
    let record = decoded(&exec(&"\0".repeat(100_000)));
    let Some(ProtoEvent::Exec(exec)) = record.event else { unreachable!() };
    assert!(exec.args_truncated && exec.args.len() > 4096);
}

#[test]
fn masking_is_summed_up_per_kind_over_all_text() {
    let mut draft = exec("pay\x004111111111111111\x005555555555554444");
    draft.subject = Subject::Unknown { cgroup_id: 1, cgroup_path: masked("4111111111111111") };
    let record = decoded(&draft);
    assert_eq!(record.masked, [pcigate_proto::Finding { kind: "pan".into(), count: 3 }]);
    assert!(!format!("{record:?}").contains("4111111111111111"));
}

#[test]
fn an_argument_list_keeps_its_arguments_apart() {
    let Some(ProtoEvent::Exec(some)) = decoded(&exec("ls\0\0-l")).event else { unreachable!() };
    assert_eq!(some.args, ["ls", "", "-l"]);
    let Some(ProtoEvent::Exec(none)) = decoded(&exec("")).event else { unreachable!() };
    assert!(none.args.is_empty());
}

#[test]
fn a_v4_mapped_address_is_written_as_the_address_it_is() {
    let mut draft = refused_connect();
    let Event::Egress { address, .. } = &mut draft.event else { unreachable!() };
    *address = std::net::Ipv4Addr::new(10, 0, 0, 5).to_ipv6_mapped().into();
    let Some(ProtoEvent::Egress(egress)) = decoded(&draft).event else { unreachable!() };
    assert_eq!((egress.address.as_str(), egress.protocol.as_str()), ("10.0.0.5", "tcp"));
}

#[test]
fn a_refusal_belongs_to_the_queue_that_noise_cannot_drown() {
    let mut refused = exec("");
    assert_eq!(refused.queue(), Queue::Events);
    refused.outcome.result = Ending::Refused;
    assert_eq!((refused.queue(), refused_connect().queue()), (Queue::Verdicts, Queue::Verdicts));
}
