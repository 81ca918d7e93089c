//! Metrics of connections, handshakes and certificates.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Label, Seconds, add, counters, put};

/// How a handshake ended.
const HANDSHAKE_RESULTS: [&str; 3] = ["ok", "failed", "timeout"];
/// Ends of a reading of changed files.
const RELOAD_RESULTS: [&str; 2] = ["ok", "failed"];

/// What became of those who asked for a node's certificate.
const ENROLLMENT_RESULTS: [&str; 4] = ["issued", "refused", "unavailable", "turned_away"];

/// Metrics of connections, handshakes and certificates.
#[derive(Debug)]
pub struct Tls {
    /// Open connections after their handshake, and those in it.
    pub connections: Gauge,
    /// Connections closed at once because there were too many.
    pub connections_refused: Counter,
    /// TLS handshakes, by result.
    pub handshakes: Family<Label, Counter>,
    /// When certificates end, by file.
    pub certificate_not_after: Family<Label, Seconds>,
    /// Readings of changed TLS files, by result.
    pub certificate_reloads: Family<Label, Counter>,
    /// 1 while the files in `tlsDir` cannot be used and older ones are.
    pub certificate_files_wrong: Gauge,
    /// Askings for a node's certificate, by result.
    pub enrollments: Family<Label, Counter>,
}

impl Tls {
    pub(super) fn register(r: &mut Registry) -> Self {
        Self {
            connections: add(r, "connections", "Connections, those in a handshake included"),
            connections_refused: add(
                r,
                "connections_refused",
                "Connections closed at once because there were too many",
            ),
            handshakes: put(
                r,
                "tls_handshakes",
                "TLS handshakes ended, by result",
                counters("result", &HANDSHAKE_RESULTS),
            ),
            certificate_not_after: add(
                r,
                "tls_certificate_not_after_seconds",
                "When the certificate in use ends, seconds since 1970, by file",
            ),
            certificate_reloads: put(
                r,
                "tls_reloads",
                "Readings of changed files in tlsDir, by result",
                counters("result", &RELOAD_RESULTS),
            ),
            certificate_files_wrong: add(
                r,
                "tls_files_wrong",
                "1 while the files in tlsDir cannot be used and those read before are",
            ),
            enrollments: put(
                r,
                "enrollments",
                "Askings for the certificate of a node, by result",
                counters("result", &ENROLLMENT_RESULTS),
            ),
        }
    }
}
