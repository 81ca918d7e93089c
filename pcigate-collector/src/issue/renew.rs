//! Issuing again where it is time: what a container does at each of its starts.

use std::{
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{KeyPair, PublicKeyData as _, SanType};
use x509_parser::{
    extensions::GeneralName,
    pem::parse_x509_pem,
    prelude::{FromDer as _, X509Certificate},
};

use super::{IssueError, Order, file_error, issue};

/// Files of a TLS directory; a collector that reads half of a new set keeps the one it has.
const FILES: [&str; 3] = ["key.pem", "cert.pem", "ca.pem"];
/// A certificate is replaced when less than this part of its time is left.
const LEFT_PART: i64 = 3;

/// As [`issue`], but leaves alone what is there, when it is for the same holder, of the same
/// authority, and has a third of its time left; replaces it otherwise. Whether it issued.
///
/// # Errors
/// As [`issue`]; and a file that cannot be replaced.
pub fn renew(order: &Order) -> Result<bool, IssueError> {
    let names = order.params()?.subject_alt_names;
    if is_good(order, &names).is_some() {
        return Ok(false);
    }
    let new = Order { out: order.out.join(".new"), ..order.clone() };
    match fs::remove_dir_all(&new.out) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file_error("remove", &new.out, error));
        }
        _ => {}
    }
    issue(&new)?;
    for file in FILES {
        let to = order.out.join(file);
        fs::rename(new.out.join(file), &to).map_err(|error| file_error("replace", &to, error))?;
    }
    fs::remove_dir(&new.out).map_err(|error| file_error("remove", &new.out, error))?;
    Ok(true)
}

/// Something, when all is as it should be; what cannot be read is not.
fn is_good(order: &Order, names: &[SanType]) -> Option<()> {
    let [key, certificate, authority] =
        FILES.map(|file| fs::read_to_string(order.out.join(file)).ok());
    let (key, certificate) = (KeyPair::from_pem(&key?).ok()?, certificate?);
    let same = fs::read_to_string(order.ca_dir.join("ca.pem")).ok()? == authority?;
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    let (from, to) = (
        certificate.validity().not_before.timestamp(),
        certificate.validity().not_after.timestamp(),
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let left = to.checked_sub(i64::try_from(now).ok()?)?;
    let has_time = left > to.checked_sub(from)? / LEFT_PART;
    let fits = certificate.public_key().raw == key.subject_public_key_info();
    let names: Vec<String> = names.iter().map(ours).collect();
    (same && has_time && fits && told(&certificate)? == names).then_some(())
}

fn ours(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.as_str().to_owned(),
        SanType::URI(uri) => uri.as_str().to_owned(),
        SanType::IpAddress(address) => address.to_string(),
        // Never issued.
        _ => String::new(),
    }
}

fn told(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let names = certificate.subject_alternative_name().ok()??;
    let one = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(four) => Some(std::net::IpAddr::from(four).to_string()),
            Err(_) => {
                let six = <[u8; 16]>::try_from(*bytes).ok()?;
                Some(std::net::IpAddr::from(six).to_string())
            }
        },
        _ => None,
    };
    names.value.general_names.iter().map(one).collect()
}
