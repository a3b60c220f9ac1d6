//! What all requests share.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::budget::Budget;
use super::connections::Connections;
use super::error::ApiError;
use super::explain::Explainer;
use super::log::Log;
use super::metrics::{Metrics, Now};
use super::models::Models;
use super::pictures::Pipeline;
use super::token::Token;

/// Bytes of all bodies together.
const BODIES: u64 = 128 << 20;

/// The server.
#[derive(Debug)]
pub(super) struct App {
    models: OnceLock<(Models, Explainer)>,
    draining: AtomicBool,
    pub(super) pipeline: Pipeline,
    pub(super) bodies: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connections: Arc<Connections>,
    pub(super) work: Arc<Work>,
    pub(super) token: Option<Token>,
    pub(super) log: &'static Log,
    ids: AtomicU64,
    seed: u64,
}

impl App {
    pub(super) fn new(pipeline: Pipeline, connections: Arc<Connections>, token: Option<Token>, log: &'static Log) -> Self {
        Self {
            models: OnceLock::new(),
            draining: AtomicBool::new(false),
            pipeline,
            bodies: Budget::new(BODIES),
            metrics: Arc::new(Metrics::new()),
            connections,
            work: Arc::default(),
            token,
            log,
            ids: AtomicU64::new(0),
            seed: RandomState::new().hash_one(std::process::id()),
        }
    }

    /// The models are loaded and warm.
    pub(super) fn set_ready(&self, models: Models, explainer: Explainer) {
        // Called once.
        let _ = self.models.set((models, explainer));
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(super) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.models.get().is_some() && !self.draining()
    }

    /// The models.
    ///
    /// # Errors
    /// 503 before they are warm.
    pub(super) fn models(&self) -> Result<&Models, ApiError> {
        self.models.get().map(|(models, _)| models).ok_or_else(|| ApiError::not_ready("the models are being loaded"))
    }

    pub(super) fn explainer(&self) -> Result<&Explainer, ApiError> {
        self.models.get().map(|(_, explainer)| explainer).ok_or_else(|| ApiError::not_ready("the models are being loaded"))
    }

    /// An id that no other request of this process has, and hardly any of another one.
    pub(super) fn new_id(&self) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}{number:08x}", self.seed & 0xffff_ffff)
    }

    pub(super) fn metrics_text(&self) -> String {
        self.metrics.text(Now {
            in_flight: self.work.count.load(Ordering::Acquire),
            connections: self.connections.count(),
            queue: self.pipeline.waiting(),
            ready: self.is_ready(),
        })
    }
}

/// Requests in work, health checks not counted.
#[derive(Debug, Default)]
pub(super) struct Work {
    count: AtomicUsize,
    done: Notify,
}

/// A request in work, until dropped.
#[derive(Debug)]
pub(super) struct Working(Arc<Work>);

impl Work {
    pub(super) fn begin(self: &Arc<Self>) -> Working {
        self.count.fetch_add(1, Ordering::AcqRel);
        Working(Arc::clone(self))
    }

    /// Waits until nothing is in work.
    pub(super) async fn finished(&self) {
        loop {
            let notified = self.done.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.done.notify_waiters();
        }
    }
}
