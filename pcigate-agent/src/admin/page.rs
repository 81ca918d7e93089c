//! A page of metrics in the making: each name once, with all its values.

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

/// Labels of a value: names, and values out of closed sets.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The page.
pub(super) struct Page {
    registry: Registry,
}

impl Page {
    pub(super) fn new(prefix: &str) -> Self {
        Self { registry: Registry::with_prefix(prefix) }
    }

    pub(super) fn info(&mut self, name: &str, help: &str, labels: Labels) {
        self.registry.register(name, help, Info::new(labels));
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value.into().0);
        self.registry.register(name, help, gauge);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.registry.register(name, help, counter);
    }

    pub(super) fn gauges<N: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, N)>,
    ) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).set(value.into().0);
        }
        self.registry.register(name, help, family);
    }

    /// Values of the same labels are added.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in rows {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.registry.register(name, help, histogram.clone());
    }

    /// In the text format of OpenMetrics 1.0.
    pub(super) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A value of a gauge. What is counted stays far below the 2^53 that a double holds exactly.
pub(super) struct Number(f64);

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self(f64::from(u8::from(value)))
    }
}

impl From<u64> for Number {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, near enough beyond")]
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}
