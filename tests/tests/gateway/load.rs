//! Ordinary clients under load: pgbench by every protocol, with masking and records on.

use pcigate_tests::postgres::Postgres;

use super::gate::{EVERYTHING, Gate, text};

#[test]
fn pgbench_runs_by_every_protocol_with_no_refusal() {
    let postgres = Postgres::start("");
    let made = postgres.client("pgbench").args(["-i", "-q", "-s", "1"]).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    postgres.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC");
    let gate = Gate::new(&postgres, EVERYTHING);
    for protocol in ["simple", "extended", "prepared"] {
        for script in ["tpcb-like", "select-only"] {
            let mut pgbench = gate.client(&postgres, "pgbench");
            pgbench.args(["-n", "-c", "4", "-j", "2", "-t", "50", "-M", protocol, "-b", script]);
            let ran = pgbench.output().unwrap();
            let told = text(&ran);
            assert!(ran.status.success(), "{protocol} {script}: {told}");
            assert!(told.contains("processed: 200/200"), "{protocol} {script}: {told}");
        }
    }
}
