//! A thousand clients, and what each costs.

use std::thread;

use pcigate_gateway::Event;
use pcigate_tests::{postgres::Postgres, wait};

use super::{
    alone, ends, gate as new_gate,
    gate::{PAN, schema},
    is_end, is_start, limits, memory, recorded, sessions,
    wire::Wire,
};

const CLIENTS: usize = 1_000;
/// Threads that connect side by side.
const THREADS: usize = 8;
/// KiB an idle client may cost: its session, its key, its buffers, and the test's own end of it.
const KIB_EACH: f64 = 256.0;

#[test]
fn a_thousand_clients_at_once_are_each_answered_recorded_and_gone() {
    let _alone = alone();
    let postgres = Postgres::start("max_connections = 1100");
    schema(&postgres);
    let gate = new_gate(&postgres, limits());
    // What is known of the database is kept once, whoever comes first.
    let mut first = Wire::open(gate.address);
    let before = memory();
    let mut clients: Vec<Wire> = thread::scope(|scope| {
        let open = || (0..CLIENTS / THREADS).map(|_| Wire::open(gate.address)).collect::<Vec<_>>();
        let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(open)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(sessions(&postgres), CLIENTS + 1);
    let each = (memory() - before) / CLIENTS as f64;
    eprintln!("an idle client costs {each:.0} KiB");
    assert!(each < KIB_EACH, "{each:.0} KiB");
    // All are asked before any is answered.
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .ask(&format!("SELECT 'client {number}, ' || note, '{PAN}' FROM orders WHERE id = 7"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answered(), format!("client {number}, order 7"));
    }
    assert_eq!(first.value("SELECT note FROM orders WHERE id = 8"), "order 8");
    clients.into_iter().for_each(Wire::leave);
    first.leave();
    let told = ends(&gate, CLIENTS + 1);
    assert!(told.iter().all(|why| why == "left"), "{told:?}");
    recorded(&gate, CLIENTS + 1, is_start);
    recorded(&gate, CLIENTS + 1, |event| matches!(event, Event::Statement(_)));
    recorded(&gate, CLIENTS + 1, |event| matches!(event, Event::StatementEnded(_)));
    recorded(&gate, CLIENTS + 1, is_end);
    assert!(!gate.recorded().contains(PAN));
    wait::until("the server to be left", || (sessions(&postgres) == 0).then_some(()));
}
