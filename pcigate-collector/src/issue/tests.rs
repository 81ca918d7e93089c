//! Tests of issuing, and that what was issued names the right holder.

use std::{fs, os::unix::fs::PermissionsExt};

use pcigate_proto::spiffe::Identity;
use x509_parser::pem::Pem;

use super::*;
use crate::identity::{IdentityError, of_certificate};

fn order(dir: &Path, out: &str, holder: Holder) -> Order {
    let (ca_dir, out) = (dir.join("ca"), dir.join(out));
    Order { ca_dir, out, holder, trust_domain: "pcigate".into(), days: 30 }
}

fn identity(dir: &Path) -> Result<Identity, IdentityError> {
    let pem = fs::read(dir.join("cert.pem")).unwrap();
    let pem = Pem::iter_from_buffer(&pem).next().unwrap().unwrap();
    of_certificate(&pem.contents)
}

#[test]
fn nodes_and_people_get_their_names_and_servers_get_none() {
    let dir = tempfile::tempdir().unwrap();
    let holders = [
        ("n", Holder::Node("n1".into())),
        ("p", Holder::Person("ana@example.com".into())),
        ("s", Holder::Server(vec!["localhost".into(), "127.0.0.1".into(), "::1".into()])),
    ];
    for (out, holder) in holders {
        issue(&order(dir.path(), out, holder)).unwrap();
    }
    assert_eq!(identity(&dir.path().join("n")), Ok(Identity::Node("n1".into())));
    let id = "spiffe://pcigate/person/ana@example.com".to_owned();
    assert_eq!(identity(&dir.path().join("p")), Ok(Identity::Person { id }));
    let server = identity(&dir.path().join("s"));
    assert_eq!(server, Err(IdentityError::Names { count: 0 }));
    let ca = |out: &str| fs::read(dir.path().join(out).join("ca.pem")).unwrap();
    assert!(ca("n") == ca("p") && ca("p") == ca("s") && ca("s") == ca("ca"));
}

#[test]
fn keys_are_for_their_owner_only_and_the_authoritys_key_stays_with_it() {
    let dir = tempfile::tempdir().unwrap();
    issue(&order(dir.path(), "n", Holder::Node("n1".into()))).unwrap();
    for key in ["n/key.pem", "ca/ca-key.pem"] {
        let mode = fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    assert_eq!(fs::read_dir(dir.path().join("n")).unwrap().count(), 3);
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let order = order(dir.path(), "n", Holder::Node("n1".into()));
    issue(&order).unwrap();
    let before = fs::read(dir.path().join("n/cert.pem")).unwrap();
    assert!(matches!(issue(&order), Err(IssueError::Exists { .. })));
    assert_eq!(fs::read(dir.path().join("n/cert.pem")).unwrap(), before);
}

#[test]
fn renewing_leaves_alone_what_is_good_and_replaces_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = |hosts: &[&str]| Holder::Server(hosts.iter().map(|&host| host.into()).collect());
    let good = order(dir.path(), "s", hosts(&["a.example", "127.0.0.1", "::1"]));
    let certificate = || fs::read(dir.path().join("s/cert.pem")).unwrap();
    assert!(renew(&good).unwrap(), "there is none");
    let first = certificate();
    assert!(!renew(&good).unwrap());
    assert_eq!(certificate(), first);
    let other = Order { holder: hosts(&["a.example", "127.0.0.1"]), ..good.clone() };
    assert!(renew(&other).unwrap(), "other names");
    assert!(!renew(&other).unwrap());
    fs::write(dir.path().join("s/key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(renew(&other).unwrap(), "a key that does not fit");
    // The clock's tolerance is older than a certificate of no days at all.
    assert!(renew(&Order { days: 0, holder: hosts(&["b"]), ..good.clone() }).unwrap());
    assert!(renew(&Order { holder: hosts(&["b"]), ..good }).unwrap(), "its time is over");
    let elsewhere = Order { ca_dir: dir.path().join("ca2"), ..other };
    assert!(renew(&elsewhere).unwrap() && !renew(&elsewhere).unwrap(), "another authority");
    assert_eq!(fs::read_dir(dir.path().join("s")).unwrap().count(), 3);
}

#[test]
fn an_authority_without_its_key_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    issue(&order(dir.path(), "a", Holder::Node("a".into()))).unwrap();
    fs::remove_file(dir.path().join("ca/ca-key.pem")).unwrap();
    let again = issue(&order(dir.path(), "b", Holder::Node("b".into())));
    assert!(matches!(again, Err(IssueError::Half { .. })));
    assert!(!dir.path().join("b").exists());
}

#[test]
fn names_that_would_not_be_understood_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let holders = [
        Holder::Node("a/b".into()),
        Holder::Node(String::new()),
        Holder::Person("a b".into()),
        Holder::Server(vec!["https://host".into()]),
        Holder::Server(vec!["host:7443".into()]),
    ];
    for holder in holders {
        let refused = issue(&order(dir.path(), "x", holder.clone()));
        assert!(matches!(refused, Err(IssueError::Name { .. })), "{holder:?}");
    }
    let order = order(dir.path(), "x", Holder::Node("n".into()));
    let refused = issue(&Order { trust_domain: "a/b".into(), ..order });
    assert!(matches!(refused, Err(IssueError::Name { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn foreign_bytes_are_no_certificate() {
    for bytes in [&b""[..], b"\x30\x03\x02\x01\x01", &[0xff; 64]] {
        assert_eq!(of_certificate(bytes), Err(IdentityError::Malformed));
    }
}
