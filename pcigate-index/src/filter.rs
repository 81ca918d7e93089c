//! A question as an expression over the table. The meaning is that of the collector's filter over
//! records, which stays the judge in tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datafusion::{
    logical_expr::{Expr, expr::InList},
    prelude::{col, lit},
    scalar::ScalarValue,
};
use pcigate_proto::Verdict;

use crate::{
    question::{Destination, Question},
    rows::address_bytes,
};

/// Largest time that `time` holds.
const TIME_MAX: u64 = i64::MAX as u64;

/// The conditions of a question; all must hold.
pub fn conditions(question: &Question) -> Vec<Expr> {
    let mut all = Vec::new();
    if !question.kinds.is_empty() {
        let kinds = question.kinds.iter().map(|kind| lit(kind.clone())).collect();
        all.push(Expr::InList(InList::new(Box::new(col("kind")), kinds, false)));
    }
    all.extend(since(question.since_unix_nano));
    if question.until_unix_nano != 0 {
        all.push(before(question.until_unix_nano));
    }
    let verdict = question.verdict.filter(|verdict| *verdict != Verdict::Unspecified);
    if let Some(verdict) = verdict {
        all.push(col("verdict").eq(lit(verdict.as_str_name().to_ascii_lowercase())));
    }
    let texts = [
        ("namespace", &question.namespace),
        ("pod", &question.pod),
        ("service_account", &question.service_account),
    ];
    let set = texts.into_iter().filter(|(_, wanted)| !wanted.is_empty());
    all.extend(set.map(|(column, wanted)| col(column).eq(lit(wanted.clone()))));
    if !question.node.is_empty() {
        let is = |column| col(column).eq(lit(question.node.clone()));
        all.push(is("node").or(is("about_node")));
    }
    if !question.session.is_empty() {
        all.push(like("session", &format!("{}*", question.session)));
    }
    if !question.executable.is_empty() {
        let runs = |column| like(column, &question.executable);
        all.push(runs("executable").or(runs("path")));
    }
    if let Some(destination) = &question.destination {
        all.extend(went_to(destination));
    }
    all
}

fn since(since: u64) -> Option<Expr> {
    match since {
        0 => None,
        since if since > TIME_MAX => Some(col("time_overflow").gt_eq(lit(since))),
        since => Some(col("time").gt_eq(time(since))),
    }
}

/// Earlier than a time, ns since 1970.
pub fn before(time_unix_nano: u64) -> Expr {
    if time_unix_nano > TIME_MAX {
        let beyond = || col("time_overflow");
        return beyond().is_null().or(beyond().lt(lit(time_unix_nano)));
    }
    // What lies beyond stands as the last time there is.
    let earlier = col("time").lt(time(time_unix_nano));
    if time_unix_nano == TIME_MAX { earlier.and(col("time_overflow").is_null()) } else { earlier }
}

fn time(nanoseconds: u64) -> Expr {
    let nanoseconds = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
    lit(ScalarValue::TimestampNanosecond(Some(nanoseconds), Some("UTC".into())))
}

/// `*` stands for any characters.
fn like(column: &str, glob: &str) -> Expr {
    if !glob.contains('*') {
        return col(column).eq(lit(glob));
    }
    let mut pattern = String::with_capacity(glob.len() + 8);
    for character in glob.chars() {
        match character {
            '*' => pattern.push('%'),
            '%' | '_' | '\\' => pattern.extend(['\\', character]),
            other => pattern.push(other),
        }
    }
    col(column).like(lit(pattern))
}

fn went_to(destination: &Destination) -> Vec<Expr> {
    let mut all = vec![col("kind").eq(lit("egress"))];
    all.extend(destination.port.map(|port| col("port").eq(lit(u64::from(port)))));
    let bytes = |address: u128| {
        lit(ScalarValue::BinaryView(Some(Ipv6Addr::from_bits(address).octets().to_vec())))
    };
    let within = |low: u128, high: u128| {
        let address = || col("address_bytes");
        address().gt_eq(bytes(low)).and(address().lt_eq(bytes(high)))
    };
    let mapped = |address: Ipv4Addr| u128::from_be_bytes(address_bytes(IpAddr::V4(address)));
    match destination.network {
        None => {}
        Some((IpAddr::V4(network), bits)) => {
            let (low, high) = range(mapped(network), 96 + bits.min(32));
            all.push(within(low, high));
        }
        Some((IpAddr::V6(network), bits)) => {
            // A v4-mapped address is an IPv4 address, which no IPv6 prefix holds.
            let (low, high) = range(network.to_bits(), bits.min(128));
            let (first, last) = (mapped(Ipv4Addr::UNSPECIFIED), mapped(Ipv4Addr::BROADCAST));
            all.push(within(low, high));
            if low <= last && first <= high {
                all.push(!within(first, last));
            }
        }
    }
    all
}

/// First and last address of a prefix.
fn range(network: u128, bits: u32) -> (u128, u128) {
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    (network & !host, network | host)
}
