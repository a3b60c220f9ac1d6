//! Grad-CAM: one thread for all models, one picture at a time, beside classification and never before it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use timburn_core::device::Device;
use timburn_core::panic::panic_message;
use timburn_core::{Error, Result};
use timburn_data::picture::encode_png;
use timburn_data::{Rgb8Image, to_tensor};
use timburn_infer::GradCam;
use timburn_models::Model;
use tokio::sync::oneshot;

use super::error::ApiError;
use super::log;
use super::models::Served;

/// Pictures that may wait: each takes as long as dozens of classifications.
const WAITING: usize = 4;

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Explainer(SyncSender<Job>);

struct Job {
    model: Arc<Served>,
    /// As the model takes it.
    picture: Rgb8Image,
    class: Option<usize>,
    reply: oneshot::Sender<Result<Explained, String>>,
}

/// What spoke for a class.
#[derive(Debug)]
pub(super) struct Explained {
    /// The map laid over the picture that the model saw.
    pub(super) png: Vec<u8>,
    pub(super) label: String,
}

impl Explainer {
    /// Starts the thread. A model's copy for gradients is made when the first picture asks for it.
    ///
    /// # Errors
    /// [`Error::Io`] when the system has no thread left.
    pub(super) fn start(device: Device) -> Result<Self> {
        let (jobs, received) = sync_channel(WAITING);
        let started = std::thread::Builder::new().name("grad-cam".into()).spawn(move || run(&received, &device));
        started.map_err(Error::io("start", "the thread for Grad-CAM"))?;
        Ok(Self(jobs))
    }

    /// Explains what `model` says of a prepared picture, for `class` or the best one.
    ///
    /// # Errors
    /// 503 when too many wait, 500 when the device fails.
    pub(super) async fn explain(&self, model: &Arc<Served>, picture: Rgb8Image, class: Option<usize>) -> Result<Explained, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Job { model: Arc::clone(model), picture, class, reply }).map_err(|error| match error {
            TrySendError::Full(_) => ApiError::overloaded("too many explanations are waiting"),
            TrySendError::Disconnected(_) => ApiError::internal(),
        })?;
        let outcome = answer.await.unwrap_or_else(|_| Err("no answer".into()));
        outcome.map_err(|failure| {
            log::fault(format!("Grad-CAM of model {}: {failure}", model.name));
            ApiError::internal()
        })
    }
}

fn run(jobs: &Receiver<Job>, device: &Device) {
    let mut cams = HashMap::new();
    while let Ok(Job { model, picture, class, reply }) = jobs.recv() {
        // Who asked may be gone.
        if reply.is_closed() {
            continue;
        }
        let outcome = match catch_unwind(AssertUnwindSafe(|| explain(&mut cams, &model, &picture, class, device))) {
            Ok(explained) => explained.map_err(|error| error.to_string()),
            Err(panic) => Err(format!("panic: {}", panic_message(panic.as_ref()))),
        };
        let _ = reply.send(outcome);
    }
}

fn explain(
    cams: &mut HashMap<String, GradCam<Model>>,
    model: &Served,
    picture: &Rgb8Image,
    class: Option<usize>,
    device: &Device,
) -> Result<Explained> {
    let cam = match cams.entry(model.name.clone()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(GradCam::new(&model.predictor.model()?, &model.preprocessing, None, device)?),
    };
    let images = to_tensor(std::slice::from_ref(picture), &model.preprocessing, &device.clone().without_autodiff())?;
    let map = cam.map_tensor(images, class)?;
    let label = model.classes.name(map.class).map_or_else(|| format!("class {}", map.class), str::to_owned);
    Ok(Explained { png: encode_png(&map.overlay(picture))?, label })
}
