//! A request's body, read whole into memory: of bounded size, in bounded time, from a bounded store.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use tokio::time::{Instant, timeout_at};

use super::budget::{Budget, Share};
use super::error::ApiError;

/// Largest body in bytes.
pub(super) const LARGEST: u64 = 10 << 20;
/// How long a body may take from its first byte to its last.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A body, and the memory it was given.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    /// Shared by all that is made of the body: it is free again when the last of them is gone.
    pub(super) share: Arc<Share>,
}

/// Reads a body.
///
/// # Errors
/// 413 above [`LARGEST`], by the announced length or by what comes; 408 after [`PATIENCE`]; 503 when all bodies together are too much; 400 for
/// one that breaks off.
pub(super) async fn read(mut body: Body, headers: &HeaderMap, budget: &Arc<Budget>) -> Result<Held, ApiError> {
    let too_large = || ApiError::too_large(format!("the body is larger than {} MiB; send a smaller picture", LARGEST >> 20));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LARGEST) {
        return Err(too_large());
    }
    let deadline = Instant::now() + PATIENCE;
    let mut share = budget.share();
    let mut bytes = Vec::new();
    loop {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let frame = timeout_at(deadline, frame).await;
        let frame =
            frame.map_err(|_| ApiError::timeout(format!("the body did not come within {} s; send it faster", PATIENCE.as_secs())))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("the body broke off; send it again"))?;
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() as u64 + data.len() as u64 > LARGEST {
            return Err(too_large());
        }
        if !share.grow(data.len() as u64) {
            return Err(ApiError::overloaded("too many requests are being read"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes: bytes.into(), share: Arc::new(share) })
}
