//! Issuing again where it is time: what a container does at each of its starts.

use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::{
    oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME,
    pem::parse_x509_pem,
    prelude::{FromDer as _, X509Certificate},
};

use super::{IssueError, Order, file_error, issue};

/// Files of a TLS directory; a collector that reads half of a new set keeps the one it has.
const FILES: [&str; 3] = ["key.pem", "cert.pem", "ca.pem"];
/// A certificate is replaced when less than this part of its time is left.
const LEFT_PART: i64 = 3;

/// As [`issue`], but leaves alone what is there, when it is for the same holder, of the same
/// authority, and has a third of its time left; replaces it otherwise. Whether it replaced.
///
/// # Errors
/// As [`issue`]; and a file that cannot be replaced.
pub fn renew(order: &Order) -> Result<bool, IssueError> {
    let new = Order { out: order.out.join(".new"), ..order.clone() };
    match fs::remove_dir_all(&new.out) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file_error("remove", &new.out, error));
        }
        _ => {}
    }
    issue(&new)?;
    let is_good = is_as_good(&order.out, &new.out).is_some();
    if !is_good {
        for file in FILES {
            let to = order.out.join(file);
            let replaced = fs::rename(new.out.join(file), &to);
            replaced.map_err(|error| file_error("replace", &to, error))?;
        }
    }
    fs::remove_dir_all(&new.out).map_err(|error| file_error("remove", &new.out, error))?;
    Ok(!is_good)
}

/// Something, when what is there is as it should be; what cannot be read is not.
fn is_as_good(there: &Path, new: &Path) -> Option<()> {
    let read = |place: &Path, file: &str| fs::read_to_string(place.join(file)).ok();
    let same_authority = read(there, "ca.pem")? == read(new, "ca.pem")?;
    let key = KeyPair::from_pem(&read(there, "key.pem")?).ok()?;
    let (there, new) = (read(there, "cert.pem")?, read(new, "cert.pem")?);
    let (_, there) = parse_x509_pem(there.as_bytes()).ok()?;
    let (_, new) = parse_x509_pem(new.as_bytes()).ok()?;
    let (_, there) = X509Certificate::from_der(&there.contents).ok()?;
    let (_, new) = X509Certificate::from_der(&new.contents).ok()?;
    let same_names = names(&there)? == names(&new)?;
    let same_key = there.public_key().raw == key.subject_public_key_info();
    let (from, to) = (there.validity().not_before, there.validity().not_after);
    let (from, to) = (from.timestamp(), to.timestamp());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let left = to.checked_sub(i64::try_from(now).ok()?)?;
    let has_time = left > to.checked_sub(from)? / LEFT_PART;
    (same_authority && same_names && same_key && has_time).then_some(())
}

/// The bytes of its names: host names, addresses, SPIFFE id.
fn names<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    let found = certificate.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME).ok()??;
    Some(found.value)
}
