//! What the authority of enrolment signs, and what it does not.

use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, IsCa, SanType};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn request(params: &CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

#[test]
fn whatever_a_request_asks_for_the_certificate_is_the_nodes_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), "cluster.one", DAY).unwrap();
    let mut greedy = CertificateParams::default();
    greedy.distinguished_name.push(DnType::CommonName, "node-9");
    greedy.subject_alt_names = vec![
        SanType::URI("spiffe://cluster.one/person/eve".try_into().unwrap()),
        SanType::DnsName("collector".try_into().unwrap()),
    ];
    greedy.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let asked = Asked::read(&request(&greedy)).unwrap();
    let issued = authority.issue(&asked, "node-1").unwrap();
    let (_, certificate) = X509Certificate::from_der(&issued.der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let names: Vec<_> = names.value.general_names.iter().collect();
    assert_eq!(names, [&GeneralName::URI("spiffe://cluster.one/node/node-1")]);
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!certificate.subject().to_string().contains("node-9"));
    let validity = certificate.validity();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert_eq!(seconds, 86_400 + 300);
    assert_eq!(certificate.raw_serial(), hex::decode(&issued.serial).unwrap());
}

#[test]
fn two_certificates_for_one_key_have_two_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), "pcigate", DAY).unwrap();
    let asked = Asked::read(&request(&CertificateParams::default())).unwrap();
    let [one, two] = [(); 2].map(|()| authority.issue(&asked, "n").unwrap().serial);
    assert_ne!(one, two);
}

#[test]
fn the_authority_is_made_once_and_a_half_made_one_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("enroll.making")).unwrap();
    std::fs::write(dir.path().join("enroll.making/ca-key.pem"), "half").unwrap();
    let open = || Authority::open(dir.path(), "pcigate", DAY).unwrap().certificate().to_vec();
    assert_eq!(open(), open());
}

#[test]
fn a_request_that_its_own_key_did_not_sign_is_refused() {
    let mut forged = request(&CertificateParams::default());
    let last = forged.last_mut().unwrap();
    *last ^= 1;
    assert_eq!(Asked::read(&forged).err(), Some(CsrError::Malformed));
    assert_eq!(Asked::read(&[0x30; 5_000]).err(), Some(CsrError::Large));
}

proptest! {
    #[test]
    fn foreign_bytes_are_refused_and_nothing_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        prop_assert!(Asked::read(&bytes).is_err());
        let mut request = request(&CertificateParams::default());
        let at = at.index(request.len());
        let is_same = request[at] == with;
        request[at] = with;
        // The algorithm's own encoding is outside of what is signed.
        prop_assert!(is_same || Asked::read(&request).is_err() || at >= request.len() - 90);
    }
}
