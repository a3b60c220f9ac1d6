//! What the server counts, in the text format that Prometheus reads (OpenMetrics 1.0).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The media type of [`Metrics::text`].
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds: a health check, a small network on a CPU, a large one in a long queue.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const PICTURES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The route, not the path that was asked for: a client cannot make new ones.
    path: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabel {
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

/// Counters, gauges and histograms.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<PathLabel, Histogram, fn() -> Histogram>,
    rejected: Family<ReasonLabel, Counter>,
    batches: Family<ModelLabel, Histogram, fn() -> Histogram>,
    forward: Family<ModelLabel, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    connections: Gauge,
    queue: Gauge,
    resident: Gauge,
    ready: Gauge,
}

/// What is read when somebody asks, and not kept up to date meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) in_flight: usize,
    pub(super) connections: usize,
    /// Pictures between their admission and their answer.
    pub(super) queue: usize,
    pub(super) ready: bool,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let pictures: fn() -> Histogram = || Histogram::new(PICTURES);
        let own = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            rejected: Family::default(),
            batches: Family::new_with_constructor(pictures),
            forward: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            queue: Gauge::default(),
            resident: Gauge::default(),
            ready: Gauge::default(),
        };
        let started: Gauge = Gauge::default();
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed());
        let mut registry = Registry::default();
        registry.register("timburn_http_requests", "Requests answered", own.requests.clone());
        registry.register("timburn_http_request_duration_seconds", "Time until the answer was ready", own.durations.clone());
        registry.register("timburn_http_requests_in_flight", "Requests being worked on, health checks not counted", own.in_flight.clone());
        registry.register("timburn_connections", "Open connections", own.connections.clone());
        registry.register("timburn_rejected", "Requests and connections refused, by the code of the refusal", own.rejected.clone());
        registry.register("timburn_queue_pictures", "Pictures admitted and not answered yet", own.queue.clone());
        registry.register("timburn_batch_pictures", "Pictures in a forward pass", own.batches.clone());
        registry.register("timburn_forward_duration_seconds", "Time of a forward pass", own.forward.clone());
        registry.register("timburn_ready", "1 after the warm-up, until the server drains", own.ready.clone());
        registry.register("process_start_time_seconds", "Start of the process since the Unix epoch", started);
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory of the process; 0 where the system does not tell",
            own.resident.clone(),
        );
        Self { registry, ..own }
    }

    pub(super) fn answered(&self, path: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { path: path.to_owned(), status }).inc();
        self.durations.get_or_create(&PathLabel { path: path.to_owned() }).observe(took.as_secs_f64());
    }

    pub(super) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn forward(&self, model: &str, pictures: usize, took: Duration) {
        let label = ModelLabel { model: model.to_owned() };
        self.batches.get_or_create(&label).observe(pictures as f64);
        self.forward.get_or_create(&label).observe(took.as_secs_f64());
    }

    pub(super) fn text(&self, now: Now) -> String {
        for (gauge, value) in [(&self.in_flight, now.in_flight), (&self.connections, now.connections), (&self.queue, now.queue)] {
            gauge.set(value as i64);
        }
        self.ready.set(i64::from(now.ready));
        self.resident.set(resident_bytes().unwrap_or(0).cast_signed());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Resident memory of this process; none where the system has no `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_metric() {
        let metrics = Metrics::new();
        metrics.answered("/api/classify", 200, Duration::from_millis(3));
        metrics.rejected("overloaded");
        metrics.forward("cats", 3, Duration::from_millis(20));
        let text = metrics.text(Now { in_flight: 2, connections: 7, queue: 5, ready: true });
        for line in [
            "timburn_http_requests_total{path=\"/api/classify\",status=\"200\"} 1",
            "timburn_http_request_duration_seconds_bucket{le=\"0.005\",path=\"/api/classify\"} 1",
            "timburn_http_requests_in_flight 2",
            "timburn_connections 7",
            "timburn_rejected_total{reason=\"overloaded\"} 1",
            "timburn_queue_pictures 5",
            "timburn_batch_pictures_bucket{le=\"4.0\",model=\"cats\"} 1",
            "timburn_ready 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        if cfg!(target_os = "linux") {
            assert!(resident_bytes().unwrap() > 1 << 20);
        }
    }
}
