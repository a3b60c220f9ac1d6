//! From a picture's bytes to its labels: decoding on a few blocking threads, then the model's batch.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use timburn_data::decode::probe;
use timburn_data::{DecodeOptions, Rgb8Image, decode_bytes};
use timburn_infer::Prediction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::{Budget, Share};
use super::error::ApiError;
use super::log;
use super::models::Served;

/// Largest number of pixels a header may announce.
pub(super) const MAX_PIXELS: u64 = 24_000_000;
/// Pixels that are decoded at the same time, all threads together: a decoder takes up to 16 bytes a pixel.
const PIXELS_AT_ONCE: u64 = 32_000_000;
/// What a picture counts for at least: its decoder has tables too.
const FEWEST_PIXELS: u64 = 500_000;
/// How long a picture may wait and be worked on before its request is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all requests for answers share.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Pictures between admission and answer.
    queue: Arc<Semaphore>,
    length: usize,
    /// Pictures being decoded.
    decoders: Arc<Semaphore>,
    pixels: Arc<Budget>,
}

/// A place in the queue.
pub(super) type Place = OwnedSemaphorePermit;

/// A picture's labels and what they took.
#[derive(Debug)]
pub(super) struct Labelled {
    pub(super) prediction: Prediction,
    pub(super) decode: Duration,
    pub(super) queued: Duration,
    pub(super) forward: Duration,
}

impl Pipeline {
    /// `length`: pictures that may wait; `decoders`: threads that decode.
    pub(super) fn new(length: usize, decoders: usize) -> Self {
        Self {
            queue: Arc::new(Semaphore::new(length)),
            length,
            decoders: Arc::new(Semaphore::new(decoders)),
            pixels: Budget::new(PIXELS_AT_ONCE),
        }
    }

    /// Pictures in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.length.saturating_sub(self.queue.available_permits())
    }

    /// Places for so many pictures, at once or not at all.
    pub(super) fn admit(&self, pictures: usize) -> Result<Place, ApiError> {
        if pictures > self.length {
            return Err(ApiError::bad_request(format!("{pictures} pictures are more than the queue holds; send at most {}", self.length)));
        }
        let permit = Arc::clone(&self.queue).try_acquire_many_owned(u32::try_from(pictures).unwrap_or(u32::MAX));
        permit.map_err(|_| ApiError::overloaded("the queue is full"))
    }

    /// The picture as `model` takes it.
    ///
    /// # Errors
    /// Those of [`ApiError::of`].
    pub(super) async fn prepare(&self, model: &Arc<Served>, bytes: Bytes, share: Arc<Share>) -> Result<Rgb8Image, ApiError> {
        let permit = Arc::clone(&self.decoders).acquire_owned().await.map_err(|_| ApiError::internal())?;
        let (model, pixels) = (Arc::clone(model), Arc::clone(&self.pixels));
        let work = move || {
            // They live as long as the work, which goes on when its request is given up.
            let _held = (permit, share);
            let options = DecodeOptions { max_pixels: MAX_PIXELS, ..DecodeOptions::default() };
            let header = catch_unwind(|| probe(&bytes)).ok().flatten();
            let size = header.map_or(MAX_PIXELS, |header| header.width as u64 * header.height as u64);
            let _pixels = pixels.wait(size.clamp(FEWEST_PIXELS, MAX_PIXELS));
            let image = decode_bytes(&bytes, "picture", &options).map_err(|error| ApiError::of(&error))?;
            Ok(model.predictor.prepare(&image))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            log::fault(format!("a picture could not be prepared: {error}"));
            Err(ApiError::internal())
        })
    }

    /// The labels of a picture.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare); 500 when the model or its device fails.
    pub(super) async fn classify(&self, model: &Arc<Served>, bytes: Bytes, share: Arc<Share>) -> Result<Labelled, ApiError> {
        let started = Instant::now();
        let coming = model.batcher.expect();
        let image = self.prepare(model, bytes, share).await?;
        let decode = started.elapsed();
        let answered = model.batcher.answer(coming, image).await.map_err(|failure| {
            log::fault(format!("model {}: {failure}", model.name));
            ApiError::internal()
        })?;
        Ok(Labelled { prediction: answered.answer, decode, queued: answered.queued, forward: answered.forward })
    }
}

/// Gives a request up that takes too long.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let late = |_| ApiError::overloaded("the server did not come to this request in time");
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}
