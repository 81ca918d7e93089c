//! Frames of the gateway's process, and terms: read, or an error; what is read is written the same.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_agent::gateway::wire::{
    FRAME_MAX, FromGateway, Terms, ToGateway, Told,
    told::{Ended, Started, Traffic},
};
use pcigate_fuzz::damage::{Patch, damaged};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Frame(&'a [u8]),
    Told { texts: [&'a str; 4], numbers: [u64; 3], patches: Vec<Patch<'a>> },
    Terms { texts: [&'a str; 4], patches: Vec<Patch<'a>> },
}

const WORDS: &[&str] = &["\u{1}", "\0\0\0\0", "\u{7f}", "4111111111111111"];

fn told(texts: [&str; 4], numbers: [u64; 3]) -> Vec<u8> {
    let [one, two, three, four] = texts.map(|text| text.chars().take(500).collect::<String>());
    let [session, rows, limit] = numbers;
    let identity = Some((three.clone(), four.clone()));
    let started = Started { database: one, user: two, identity, ..Started::default() };
    let traffic = Traffic { from_client: true, text: three, masked: Vec::new() };
    let ended = Ended { why: four, rows, ..Ended::default() };
    let told = vec![
        Told::Started(Box::new(started)),
        Told::Traffic(traffic),
        Told::Truncated { limit },
        Told::Ended(Box::new(ended)),
    ];
    let frame = FromGateway::Told { session, durable: true, told }.encode();
    frame.expect("texts of this length fit").to_vec()
}

fn terms(texts: [&str; 4]) -> Vec<u8> {
    let [one, two, three, four] = texts.map(|text| text.chars().take(500).collect::<String>());
    let mut terms = Terms::blank();
    terms.authorities = one.clone().into_bytes();
    terms.client_tls = Some((two.clone().into_bytes(), three.clone().into_bytes().into()));
    terms.databases = vec![one, two, three];
    terms.target.name.name = four;
    terms.encode().expect("texts of this length fit").to_vec()
}

fn frames(bytes: &[u8]) {
    if let Ok(mut read) = FromGateway::decode(bytes)
        && bytes.len() <= FRAME_MAX
    {
        assert_eq!(read.encode().expect("it was read").as_slice(), bytes);
    }
    if let Ok(mut read) = ToGateway::decode(bytes) {
        assert_eq!(read.encode().expect("it was read").as_slice(), bytes);
    }
}

fn whole(bytes: &[u8]) {
    if let Ok(mut read) = Terms::decode(bytes) {
        assert_eq!(read.encode().expect("it was read").as_slice(), bytes);
    }
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Frame(bytes) => {
        frames(bytes);
        whole(bytes);
    }
    Input::Told { texts, numbers, patches } => {
        frames(&damaged(&told(texts, numbers), WORDS, &patches));
    }
    Input::Terms { texts, patches } => whole(&damaged(&terms(texts), WORDS, &patches)),
});
