//! What is known of each node: connected or not, when it last sent, how far its clock is off.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Seconds, gauge};

/// Nodes with series of their own. One more takes the place of the disconnected node heard of
/// longest ago; where all are connected it has no series and is only counted.
pub const NODES_MAX: usize = 5_000;

/// A node that connects again and again is news at most this often.
const NEWS_EVERY: Duration = Duration::from_secs(60);

type Name = [(&'static str, String); 1];

/// The table of nodes and its series.
#[derive(Debug, Default)]
pub struct Nodes {
    table: Mutex<Table>,
    connected: Gauge,
    streams: Gauge,
    without_series: Gauge,
    last_receive: Family<Name, Seconds>,
    clock_offset: Family<Name, Seconds>,
}

#[derive(Debug, Default)]
struct Table {
    nodes: HashMap<String, Node>,
    /// Streams of nodes that have no place in the table.
    strangers: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    streams: u32,
    /// Collector's clock at the last batch, ns since 1970; 0 = none yet.
    received: u64,
    /// The node's clock minus ours at that moment, where it told its own.
    offset_ns: Option<i64>,
    /// When its connecting was news.
    news: Option<Instant>,
}

/// A stream of a node, as long as it lives.
#[derive(Debug)]
pub struct Stream {
    nodes: Arc<Nodes>,
    /// `None`: the node has no place in the table.
    name: Option<String>,
    /// Whether that it connected is worth a line in the log: nodes whose batches are refused come
    /// again every few seconds.
    pub is_news: bool,
}

impl Nodes {
    pub(super) fn register(&self, all: &mut Registry) {
        all.register("nodes_connected", "Nodes with an open stream", self.connected.clone());
        all.register("streams", "Open streams of nodes", self.streams.clone());
        all.register(
            "nodes_without_series",
            "Streams of nodes that have no series of their own because there are too many nodes",
            self.without_series.clone(),
        );
        all.register(
            "node_last_receive_seconds",
            "When the last batch of a node came, seconds since 1970",
            self.last_receive.clone(),
        );
        all.register(
            "node_clock_offset_seconds",
            "The node's clock minus ours when its last batch came, time on the wire included",
            self.clock_offset.clone(),
        );
    }

    /// A node opened a stream.
    #[must_use]
    pub fn connect(self: &Arc<Self>, node: &str) -> Stream {
        self.streams.inc();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_news = true;
        let name = table.place(node).map(|known| {
            known.streams += 1;
            is_news = known.news.is_none_or(|told| told.elapsed() >= NEWS_EVERY);
            known.news = if is_news { Some(Instant::now()) } else { known.news };
            node.to_owned()
        });
        table.strangers += u64::from(name.is_none());
        Stream { nodes: Arc::clone(self), name, is_news }
    }

    /// A batch of a node came; `sent_unix_nano` is 0 where the node did not tell its clock.
    pub fn received(&self, node: &str, now_unix_nano: u64, sent_unix_nano: u64) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.place(node) {
            known.received = now_unix_nano;
            let offset = sent_unix_nano.wrapping_sub(now_unix_nano).cast_signed();
            known.offset_ns = (sent_unix_nano > 0).then_some(offset);
        }
    }

    /// Brings the series up to date.
    pub(super) fn refresh(&self) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = table.nodes.values().filter(|node| node.streams > 0).count() as u64;
        self.connected.set(gauge(connected + table.strangers));
        self.without_series.set(gauge(table.strangers));
        self.last_receive.clear();
        self.clock_offset.clear();
        for (name, node) in &table.nodes {
            let label = [("node", name.clone())];
            if node.received > 0 {
                self.last_receive.get_or_create(&label).set(seconds(node.received));
            }
            if let Some(offset) = node.offset_ns {
                let sign = if offset < 0 { -1.0 } else { 1.0 };
                let offset = sign * seconds(offset.unsigned_abs());
                self.clock_offset.get_or_create(&label).set(offset);
            }
        }
    }

    fn disconnect(&self, name: Option<&str>) {
        self.streams.dec();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match name {
            None => table.strangers = table.strangers.saturating_sub(1),
            Some(name) => {
                if let Some(node) = table.nodes.get_mut(name) {
                    node.streams = node.streams.saturating_sub(1);
                }
            }
        }
    }
}

impl Table {
    fn place(&mut self, name: &str) -> Option<&mut Node> {
        if !self.nodes.contains_key(name) {
            if self.nodes.len() >= NODES_MAX {
                let gone = self.nodes.iter().filter(|(_, node)| node.streams == 0);
                let oldest = gone.min_by_key(|(_, node)| node.received)?.0.clone();
                self.nodes.remove(&oldest);
            }
            self.nodes.insert(name.to_owned(), Node::default());
        }
        self.nodes.get_mut(name)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.nodes.disconnect(self.name.as_deref());
    }
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_beyond_the_limit_replace_those_that_are_gone_and_never_a_connected_one() {
        let nodes = Arc::new(Nodes::default());
        let held: Vec<_> =
            (0..NODES_MAX - 1).map(|number| nodes.connect(&format!("n{number}"))).collect();
        drop(nodes.connect("gone"));
        nodes.received("gone", 5, 0);
        let new = nodes.connect("new");
        let stranger = nodes.connect("stranger");
        nodes.refresh();
        let table = nodes.table.lock().unwrap();
        assert_eq!(table.nodes.len(), NODES_MAX);
        assert!(table.nodes.contains_key("new") && table.nodes.contains_key("n0"));
        assert!(!table.nodes.contains_key("gone") && !table.nodes.contains_key("stranger"));
        drop(table);
        assert_eq!(nodes.connected.get(), gauge(NODES_MAX as u64 + 1));
        assert_eq!(nodes.without_series.get(), 1);
        drop((held, new, stranger));
        nodes.refresh();
        assert_eq!((nodes.connected.get(), nodes.streams.get()), (0, 0));
    }

    #[test]
    fn two_streams_of_a_node_are_one_connected_node() {
        let nodes = Arc::new(Nodes::default());
        let (one, two) = (nodes.connect("n"), nodes.connect("n"));
        assert!(one.is_news && !two.is_news);
        drop(one);
        nodes.refresh();
        assert_eq!((nodes.connected.get(), nodes.streams.get()), (1, 1));
        nodes.received("n", 3_000_000_000, 1_000_000_000);
        nodes.refresh();
        let label = [("node", "n".to_owned())];
        let near = |is: f64, wanted: f64| (is - wanted).abs() < 1e-6;
        assert!(near(nodes.clock_offset.get_or_create(&label).get(), -2.0));
        assert!(near(nodes.last_receive.get_or_create(&label).get(), 3.0));
        drop(two);
    }
}
