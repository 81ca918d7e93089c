//! Policy documents: what is accepted compiles to tables that answer as the documents do.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::cards;
use pcigate_fuzz::damage::{Patch, YAML_WORDS, damaged};
use pcigate_policy::decide::{EgressRequest, ExecRequest};
use pcigate_policy::document::Documents;
use pcigate_policy::explain::{Request, explain};

const EXAMPLES: [&str; 2] = [
    include_str!("../../../deploy/examples/billing-bot.yaml"),
    include_str!("../../../deploy/examples/baseline.yaml"),
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    patches: [Vec<Patch<'a>>; 2],
    path: &'a [u8],
    invoked: &'a [u8],
    args: Option<Vec<&'a [u8]>>,
    address: IpAddr,
    protocol: u8,
    port: u16,
}

fuzz_target!(|input: Input<'_>| {
    let text = |file: usize| {
        let bytes = damaged(EXAMPLES[file].as_bytes(), YAML_WORDS, &input.patches[file]);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let files = [("a.yaml", text(0)), ("b.yaml", text(1))];
    let documents = match Documents::read(&files) {
        Ok(documents) => documents,
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let message = mistakes.to_string();
            assert!(!cards::shown_in(message.as_bytes()), "{message}");
            return;
        }
    };
    let Input { path, invoked, ref args, address, protocol, port, .. } = input;
    let exec = ExecRequest { path: Some(path), invoked, sha256: None, args: args.as_deref() };
    let egress = EgressRequest { address: Some(address), names: &[], protocol, port };
    for policy in documents.policies() {
        let workload = policy.sample_workload();
        assert_eq!(policy.selects(&workload), Ok(()));
        let set = documents.select(&workload);
        let Ok(entries) = set.compile() else { continue };
        assert_eq!(entries.hash, set.hash());
        assert_eq!(entries.exec(&exec), set.decide_exec(&exec).decision);
        let found = entries.egress(address, &[], protocol, port);
        assert_eq!(found, set.decide_egress(&egress).decision);
        for request in [Request::Exec(exec), Request::Egress(egress)] {
            let _ = explain(&documents, &workload, &request).to_string();
        }
    }
});
