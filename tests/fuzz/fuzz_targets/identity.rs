//! Identities: SPIFFE ids, and the client certificates that carry them.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_collector::identity::of_certificate;
use pcigate_fuzz::damage::{Patch, damaged};
use pcigate_proto::spiffe::{Identity, is_name, parse};

const URI: &str = "spiffe://pcigate/node/n1";
const WORDS: &[&str] = &["/", "node", "person", "spiffe://", "%2f", "ana@example.com", ".."];
/// Signed by itself, for [`URI`] and a DNS name; its private key is gone.
const CERTIFICATE: &str = "\
    3082015a3082010ca003020102021402ebe125cd62da777b289389e9b9d9ed979b7a90300506032b6570300d310b\
    300906035504030c026e313020170d3236313132323232353131395a180f32313236313032393232353131395a30\
    0d310b300906035504030c026e31302a300506032b6570032100942d92948e917400df344bf7bc689ea8f924f432\
    2aba25b498204141a5c36680a37c307a301d0603551d0e04160414082705651a06465cc3d3b46a706542a531b1c8\
    47301f0603551d23041830168014082705651a06465cc3d3b46a706542a531b1c847300f0603551d130101ff0405\
    30030101ff30270603551d110420301e86187370696666653a2f2f706369676174652f6e6f64652f6e3182026e31\
    300506032b65700341001cd7397acb24b78a65f1003dd56fe349e26bd7ccaab4967251554222ad0f2e3ce94ff9ea\
    4b91fdb1e19fa22d5f94cd78cafd9311f55514a72731ca986c210e03";

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Uri(Vec<Patch<'a>>),
    Certificate(&'a [u8]),
    Damaged(Vec<Patch<'a>>),
}

fn check(uri: &str) {
    match parse(uri) {
        Ok(Identity::Node(name)) => {
            assert!(is_name(&name) && uri.ends_with(&format!("/node/{name}")));
        }
        Ok(Identity::Person { id }) => assert_eq!(id, uri),
        Err(message) => assert!(!message.is_empty()),
    }
    if parse(uri).is_ok() {
        assert_eq!(uri.split('/').count(), 5, "{uri}");
    }
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Uri(patches) => {
            check(&String::from_utf8_lossy(&damaged(URI.as_bytes(), WORDS, &patches)));
        }
        Input::Certificate(der) => {
            let _ = of_certificate(der);
        }
        Input::Damaged(patches) => {
            let whole = hex::decode(CERTIFICATE).expect("it is hex");
            assert_eq!(of_certificate(&whole), Ok(Identity::Node("n1".to_owned())));
            let _ = of_certificate(&damaged(&whole, &[], &patches));
        }
    }
});
