//! What a request is refused with: a status, a code for programs and one sentence for people.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use timburn_core::Error;
use timburn_core::error::{ImageError, ImageFault};

/// Seconds after which a client that was turned away may try again.
const RETRY_AFTER: &str = "1";

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// The error as clients read it.
#[derive(Serialize)]
pub(super) struct Told {
    error: String,
    code: &'static str,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn unknown_model(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_model", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address takes another method; see the header Allow")
    }

    pub(super) fn unauthorized() -> Self {
        let message = "this server wants a token: send the header `Authorization: Bearer TOKEN`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// More work than the server takes on; `what` is full.
    pub(super) fn overloaded(what: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", format!("{what}; try again in a moment"))
    }

    pub(super) fn not_ready(why: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", format!("{why}; try again in a moment"))
    }

    /// A fault of the server's. What happened is for its log, not for the client.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed on this request; its log says why under this request's id",
        )
    }

    /// What is wrong with a picture, or with the device.
    pub(super) fn of(error: &Error) -> Self {
        let Error::Image(ImageError { fault, .. }) = error else {
            super::log::fault(error);
            return Self::internal();
        };
        match fault {
            ImageFault::Empty => Self::bad_request("the request has no picture; send its bytes as the body"),
            ImageFault::NotAnImage { .. } => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_an_image", "not a picture; send JPEG, PNG, GIF, WebP, BMP or TIFF")
            }
            ImageFault::TooLarge { width, height, limit } => {
                Self::too_large(format!("{width}×{height} pixels are more than the limit of {limit}; send a smaller picture"))
            }
            fault => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not_an_image",
                format!("the picture cannot be decoded ({fault}); send it again or save it anew"),
            ),
        }
    }

    pub(super) fn told(self) -> Told {
        Told { error: self.message, code: self.code }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let (status, code) = (self.status, self.code);
        let text = serde_json::to_vec(&self.told()).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let mut set = |name: HeaderName, value: &'static str| response.headers_mut().insert(name, HeaderValue::from_static(value));
        set(header::CONTENT_TYPE, "application/json");
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => set(header::RETRY_AFTER, RETRY_AFTER),
            StatusCode::UNAUTHORIZED => set(header::WWW_AUTHENTICATE, "Bearer realm=\"timburn\""),
            // The rest of a body that is refused is not wanted.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => set(header::CONNECTION, "close"),
            _ => None,
        };
        response.extensions_mut().insert(Refusal(code));
        response
    }
}

/// The code of a refusal, for the metrics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal(pub(super) &'static str);
