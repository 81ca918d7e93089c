//! Our reader of DNS messages against another one, on right messages and on damaged ones.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

use std::{format, net::Ipv6Addr, string::String, vec, vec::Vec};

use proptest::{prelude::*, sample::select};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, Question, ResourceRecord, TYPE,
    rdata::{self, RData},
};

use super::{
    A, AAAA, ANSWER_STEPS_MAX, Header, Message, QUESTION_STEPS_MAX, QuestionWalk, Step, is_nameable,
};
use crate::limits::{DNS_MESSAGE_BYTES_MAX, DNS_NAME_BYTES_MAX};

/// A message as the kernel reads it.
#[derive(Debug, PartialEq)]
struct Read {
    name: String,
    kind: u16,
    addresses: Vec<(Ipv6Addr, u32)>,
    whole: bool,
}

fn read(bytes: &[u8]) -> Option<Read> {
    let mut buffer = [0xee; DNS_MESSAGE_BYTES_MAX];
    buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let message = Message { bytes: &buffer, len: bytes.len() as u32 };
    if message.header() != Header::Answer {
        return None;
    }
    let mut name = [0; DNS_NAME_BYTES_MAX];
    let mut question = QuestionWalk::default();
    let steps = (0..QUESTION_STEPS_MAX).map(|_| question.step(&message, &mut name));
    let end = { steps }.find(|step| *step != Step::Next).expect("a question ends in time");
    if end != Step::Done {
        return None;
    }
    let used = question.name_bytes() as usize;
    assert_eq!((name[used - 1], &name[used..]), (0, &[0; DNS_NAME_BYTES_MAX][used..]));
    let text: Vec<u8> = name[..used - 1].iter().rev().copied().collect();
    let mut answers = question.answers(&message);
    let mut found = Read {
        name: String::from_utf8(text).unwrap(),
        kind: question.kind(&message),
        addresses: Vec::new(),
        whole: false,
    };
    for _ in 0..ANSWER_STEPS_MAX {
        match answers.step(&message) {
            Step::Next => {}
            Step::Address => found.addresses.push((answers.address.into(), answers.ttl)),
            Step::Done => {
                found.whole = true;
                break;
            }
            Step::Malformed => break,
        }
    }
    Some(found)
}

/// The same by the other reader: along the chain in the order of the records.
fn expected(bytes: &[u8]) -> Option<Vec<(Ipv6Addr, u32)>> {
    let packet = Packet::parse(bytes).ok()?;
    let mut wanted = lower(&packet.questions.first()?.qname);
    let (mut found, mut least) = (Vec::new(), u32::MAX);
    for record in &packet.answers {
        if record.class != CLASS::IN || lower(&record.name) != wanted {
            continue;
        }
        let ttl = if record.ttl >> 31 == 1 { 0 } else { record.ttl };
        let address = match &record.rdata {
            RData::CNAME(rdata::CNAME(name)) => {
                wanted = lower(name);
                None
            }
            RData::A(a) => Some(std::net::Ipv4Addr::from(a.address).to_ipv6_mapped()),
            RData::AAAA(aaaa) => Some(Ipv6Addr::from(aaaa.address)),
            _ => continue,
        };
        least = least.min(ttl);
        found.extend(address.map(|address| (address, least)));
    }
    Some(found)
}

fn lower(name: &Name<'_>) -> Vec<Vec<u8>> {
    name.iter().map(|label| label.as_ref().to_ascii_lowercase()).collect()
}

fn name() -> impl Strategy<Value = String> {
    let known = select(vec!["a.b", "A.B", "x.a.b", "b", "c.d.e", "Cdn.a.B", "y.c.d.E"]);
    prop_oneof![
        6 => known.prop_map(String::from),
        1 => "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,40}){0,4}",
    ]
}

fn data() -> impl Strategy<Value = RData<'static>> {
    prop_oneof![
        3 => any::<u32>().prop_map(|address| RData::A(rdata::A { address })),
        2 => any::<u128>().prop_map(|address| RData::AAAA(rdata::AAAA { address })),
        3 => name().prop_map(|name| {
            RData::CNAME(rdata::CNAME(Name::new_unchecked(&name).into_owned()))
        }),
        1 => name().prop_map(|name| {
            RData::NS(rdata::NS(Name::new_unchecked(&name).into_owned()))
        }),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let ttl = prop_oneof![any::<u32>(), 0..100u32];
    let class = prop_oneof![9 => Just(CLASS::IN), 1 => Just(CLASS::CH)];
    let records = prop::collection::vec((name(), ttl, class, data()), 0..12);
    (name(), any::<bool>(), any::<bool>(), records).prop_map(|(asked, six, compress, records)| {
        let mut packet = Packet::new_reply(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let kind = if six { TYPE::AAAA } else { TYPE::A };
        let asked = Name::new_unchecked(&asked).into_owned();
        packet.questions.push(Question::new(asked, kind.into(), CLASS::IN.into(), false));
        for (owner, ttl, class, data) in records {
            let owner = Name::new_unchecked(&owner).into_owned();
            packet.answers.push(ResourceRecord::new(owner, class, ttl, data));
        }
        let bytes = packet.build_bytes_vec();
        if compress { packet.build_bytes_vec_compressed() } else { bytes }.unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_right_message_says_what_another_reader_reads(bytes in message()) {
        let found = read(&bytes).unwrap();
        prop_assert!(found.whole);
        let packet = Packet::parse(&bytes).unwrap();
        let question = &packet.questions[0];
        prop_assert_eq!(&found.name, &format!("{}", question.qname).to_ascii_lowercase());
        let kind = if question.qtype == TYPE::A.into() { A } else { AAAA };
        prop_assert_eq!(found.kind, kind);
        prop_assert_eq!(Some(found.addresses), expected(&bytes));
    }

    #[test]
    fn damage_makes_no_message_say_what_another_reader_does_not_read(
        mut bytes in message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        for (at, byte) in damage {
            // Pointers into the first bytes are what goes wrong most interestingly.
            let at = at.index(bytes.len());
            bytes[at] = if byte > 200 { 0xc0 } else { byte };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let Some(found) = read(&bytes).filter(|found| found.whole) else { return Ok(()) };
        if let Some(expected) = expected(&bytes) {
            prop_assert_eq!(found.addresses, expected);
        }
    }

    #[test]
    fn no_bytes_keep_the_reader_busy_or_make_it_panic(
        mut bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), select(vec![0u8, 1, 5, 12, 28, 63, 0xc0, 0xff])], 0..600),
        header in any::<bool>(),
    ) {
        if header && bytes.len() >= 12 {
            bytes[2..6].copy_from_slice(&[0x81, 0x80, 0, 1]);
        }
        read(&bytes);
    }
}

/// A right answer of one record, with these bytes as the question's name.
fn asking(name: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    bytes.extend(name);
    bytes.extend([0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
    bytes
}

#[test]
fn a_name_with_a_dot_within_a_label_is_no_name() {
    assert_eq!(read(&asking(b"\x03a.b\x01c\0")), None);
    assert_eq!(read(&asking(b"\x03a-b\x01c\0")).unwrap().name, "a-b.c");
    assert_eq!(read(&asking(b"\0")), None, "the root");
}

#[test]
fn a_name_longer_than_the_tables_hold_is_no_name() {
    let of = |last: usize| {
        let mut name = [&[63u8][..], &[b'x'; 63]].concat().repeat(3);
        name.push(last as u8);
        name.extend(vec![b'x'; last]);
        name.push(0);
        asking(&name)
    };
    let longest = DNS_NAME_BYTES_MAX - 1 - 3 * 64;
    assert_eq!(read(&of(longest)).unwrap().name.len(), DNS_NAME_BYTES_MAX - 1);
    assert_eq!(read(&of(longest + 1)), None);
}

#[test]
fn the_most_addresses_a_message_can_hold_are_all_read() {
    let mut bytes = asking(b"\x01a\0");
    let record = bytes.split_off(bytes.len() - 16);
    let room = (DNS_MESSAGE_BYTES_MAX - bytes.len()) / 16;
    bytes.extend(record.repeat(room));
    bytes[6..8].copy_from_slice(&(room as u16).to_be_bytes());
    let found = read(&bytes).unwrap();
    assert!(found.whole && found.addresses.len() == room);
}

#[test]
fn this_host_its_links_and_groups_are_not_nameable() {
    for (text, nameable) in [
        ("::ffff:10.0.0.1", true),
        ("::ffff:169.253.0.1", true),
        ("::ffff:169.254.169.254", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:0.0.0.0", false),
        ("::ffff:224.0.0.1", false),
        ("::ffff:255.255.255.255", false),
        ("2001:db8::1", true),
        ("fd00:ec2::254", true),
        ("fe80::1", false),
        ("febf::1", false),
        ("ff02::1", false),
        ("::", false),
        ("::1", false),
        ("::10.0.0.1", false),
    ] {
        let address: Ipv6Addr = text.parse().unwrap();
        assert_eq!(is_nameable(&address.octets()), nameable, "{text}");
    }
}
