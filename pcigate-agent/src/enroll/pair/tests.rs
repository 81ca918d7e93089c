//! Certificates that count, do not yet or no longer, and belong to others; and what a crash leaves.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, SanType};
use tempfile::TempDir;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn issued(node: &str, key: &KeyPair, begin: SystemTime, life: Duration) -> String {
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://pcigate/node/{node}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = begin.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    params.not_before = epoch + since;
    params.not_after = epoch + since + life;
    params.self_signed(key).unwrap().pem()
}

fn begin() -> SystemTime {
    SystemTime::UNIX_EPOCH + HOUR * 500_000
}

fn pair() -> Pair {
    let key = KeyPair::generate().unwrap();
    let cert = issued("n1", &key, begin(), HOUR * 24);
    let key = Zeroizing::new(key.serialize_pem());
    Pair::new("authority".to_owned(), cert, key, "n1").unwrap()
}

#[test]
fn a_certificate_is_renewed_at_about_two_thirds_of_its_life_whatever_the_clock_does() {
    let pair = pair();
    let at = |hours: u32| pair.standing(begin() + HOUR * hours);
    assert!(matches!(at(1), Standing::Good { left } if left <= HOUR * 15 && left > HOUR * 13));
    assert!(matches!(at(14), Standing::Good { .. }));
    assert_eq!((at(16), at(23), at(24)), (Standing::Due, Standing::Due, Standing::Expired));
    assert_eq!(pair.standing(begin() - HOUR), Standing::NotYet);
}

#[test]
fn a_certificate_for_another_node_or_key_is_not_used() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let cert = issued("n1", &key, begin(), HOUR);
    let wrong = |cert: &str, key: &KeyPair, node: &str| {
        let key = Zeroizing::new(key.serialize_pem());
        Pair::new(String::new(), cert.to_owned(), key, node).err().unwrap()
    };
    assert!(wrong(&cert, &key, "n2").contains("for the node `n1`"));
    assert!(wrong(&cert, &other, "n1").contains("another key"));
    assert!(wrong("nonsense", &key, "n1").contains("no certificate"));
}

#[test]
fn what_is_kept_is_read_again_and_only_the_owner_can_read_the_key() {
    let dir = TempDir::new().unwrap();
    let tls_dir = dir.path().join("tls");
    let ca_file = dir.path().join("ca.pem");
    fs::write(&ca_file, "authority").unwrap();
    for _ in 0..3 {
        let pair = pair();
        pair.keep(&tls_dir).unwrap();
        let read = Pair::read(&tls_dir, &ca_file, "n1").unwrap();
        assert_eq!((&read.cert, &read.key), (&pair.cert, &pair.key));
        let mode = fs::metadata(tls_dir.join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let pairs = fs::read_dir(&tls_dir).unwrap().flatten();
    let pairs = pairs.filter(|entry| entry.file_name().to_str().unwrap().starts_with(PAIR));
    assert_eq!(pairs.count(), 1, "old ones are removed");
    assert!(Pair::read(&tls_dir, &ca_file, "n2").is_err());
}

#[test]
fn a_crash_before_the_link_is_changed_leaves_the_old_pair_whole() {
    let dir = TempDir::new().unwrap();
    let ca_file = dir.path().join("authority.pem");
    fs::write(&ca_file, "authority").unwrap();
    let before = pair();
    before.keep(dir.path()).unwrap();
    // As far as another came: its files, and a link that was not renamed.
    let half = dir.path().join(format!("{PAIR}half"));
    fs::create_dir(&half).unwrap();
    fs::write(half.join("cert.pem"), "half").unwrap();
    symlink(format!("{PAIR}half"), dir.path().join(format!("{CURRENT}.new"))).unwrap();
    let read = Pair::read(dir.path(), &ca_file, "n1").unwrap();
    assert_eq!(read.cert, before.cert);
    let after = pair();
    after.keep(dir.path()).unwrap();
    assert_eq!(Pair::read(dir.path(), &ca_file, "n1").unwrap().cert, after.cert);
    assert!(!half.exists());
}
