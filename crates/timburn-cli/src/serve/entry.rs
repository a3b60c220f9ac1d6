//! Every request comes through here: its id, the gates before the routes, the headers behind them, log and metrics.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use timburn_core::panic::panic_message;

use super::app::{App, Working};
use super::connections::{Busy, Connection};
use super::error::{ApiError, Refusal};
use super::log::{self, Access};
use super::page;
use super::router::Route;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Sent with every answer.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
];

/// The routes, as one connection sees them.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    app: Arc<App>,
    router: TowerToHyperService<Router>,
    connection: Arc<Connection>,
}

impl Entry {
    pub(super) fn new(app: Arc<App>, router: Router, connection: Arc<Connection>) -> Self {
        Self { app, router: TowerToHyperService::new(router), connection }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Tracked> {
        let started = Instant::now();
        let busy = self.connection.begin();
        let id = id_of(request.headers()).unwrap_or_else(|| self.app.new_id());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let health = matches!(path.as_str(), "/livez" | "/readyz");
        let only_health = self.connection.only_health();
        let gate = self.gate(&path, health, only_health, request.headers());
        // What is refused at the gate does not hold up the end of the server.
        let working = (!health && gate.is_ok()).then(|| self.app.work.begin());
        let mut response = match gate {
            Ok(()) => caught(self.router.call(request), &id).await,
            Err(refusal) => refusal.into_response(),
        };
        self.connection.set_refused(!response.status().is_success());

        let route = response.extensions().get().map_or("other", |&Route(path)| path);
        if let Some(&Refusal(code)) = response.extensions().get() {
            self.app.metrics.rejected(code);
        }
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if only_health || self.app.draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let (status, took) = (response.status().as_u16(), started.elapsed());
        self.app.metrics.answered(route, status, took);
        let bytes = response.body().size_hint().exact().unwrap_or(0);
        self.app.log.access(&Access { id: &id, method: method.as_str(), path: &path, status, bytes, took });
        response.map(|body| Tracked { body, _busy: busy, _working: working })
    }

    /// Whether a request may come to the routes at all.
    fn gate(&self, path: &str, health: bool, only_health: bool, headers: &HeaderMap) -> Result<(), ApiError> {
        if health {
            return Ok(());
        }
        let watched = path == "/metrics";
        if only_health && !watched {
            return Err(ApiError::overloaded("too many connections are open"));
        }
        if self.app.draining() && !watched {
            return Err(ApiError::not_ready("the server is ending"));
        }
        match &self.app.token {
            Some(token) if !page::is_asset(path) && !token.is_in(headers) => Err(ApiError::unauthorized()),
            _ => Ok(()),
        }
    }
}

impl Service<Request<Incoming>> for Entry {
    type Response = Response<Tracked>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let entry = self.clone();
        Box::pin(async move { Ok(entry.answer(request).await) })
    }
}

/// The id that came with a request, if it is one that can be written anywhere.
fn id_of(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    ((1..=64).contains(&id.len()) && id.bytes().all(fits)).then(|| id.to_owned())
}

/// The answer of `work`; 500 when it panics.
async fn caught(work: impl Future<Output = Result<Response<Body>, Infallible>>, id: &str) -> Response<Body> {
    let mut work = pin!(work);
    let polled = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(response)) => Poll::Ready(Ok(response)),
        Err(panic) => Poll::Ready(Err(panic_message(panic.as_ref()))),
    });
    match polled.await {
        Ok(Ok(response)) => response,
        Err(panic) => {
            log::fault(format!("request {id}: panic: {panic}"));
            ApiError::internal().into_response()
        }
    }
}

/// An answer's body, which keeps connection and server busy until it is sent.
#[derive(Debug)]
pub(super) struct Tracked {
    body: Body,
    _busy: Busy,
    _working: Option<Working>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_handler_is_an_answer() {
        let response = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let work = async {
                tokio::task::yield_now().await;
                panic!("on purpose")
            };
            caught(work, "id").await
        });
        assert_eq!(response.status(), 500);
        assert!(response.extensions().get::<Refusal>().is_some_and(|refusal| refusal.0 == "internal"));
    }

    #[test]
    fn only_plain_ids_are_taken_over() {
        let of = |value: &str| id_of(&[(REQUEST_ID, HeaderValue::from_str(value).unwrap())].into_iter().collect());
        assert_eq!(of("a-B_9"), Some("a-B_9".into()));
        assert_eq!(of(&"x".repeat(64)), Some("x".repeat(64)));
        for wrong in ["", "a b", "a\"b", "a/b", &"x".repeat(65)] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
