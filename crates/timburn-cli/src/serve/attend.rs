//! Accepting connections and attending to each of them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::{Builder, Parts};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::app::App;
use super::connections::Admitted;
use super::entry::Entry;
use super::listen::Listener;
use super::stream::{Socket, Stream};

/// How long a client may take for a request's head, and how long a connection may wait for its next request.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Largest head of a request, and buffer of a connection, in bytes.
const LARGEST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 64;
/// How long, and how much, is read of a body that was refused, so that the client gets to read the refusal.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;
/// Pause after an accept that failed, for want of file descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections until the task is aborted.
pub(super) async fn accept(listener: Listener, app: Arc<App>, router: Router, ending: watch::Receiver<bool>) {
    for number in 0.. {
        let socket = match listener.accept().await {
            Ok(socket) => socket,
            Err(_) => {
                app.metrics.rejected("accept");
                app.connections.make_room();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match app.connections.admit(number) {
            Some(place) => {
                tokio::spawn(attend(socket, place, Arc::clone(&app), router.clone(), ending.clone()));
            }
            None => app.metrics.rejected("connections"),
        }
    }
}

/// Serves one connection to its end.
async fn attend(socket: Socket, place: Admitted, app: Arc<App>, router: Router, mut ending: watch::Receiver<bool>) {
    let entry = Entry::new(app, router, Arc::clone(&place.connection));
    let mut connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(Stream::new(socket, Arc::clone(&place.connection))), entry);
    // One that comes while the server ends gets its refusal, and is closed then.
    let mut told = *ending.borrow_and_update();
    let outcome = loop {
        tokio::select! {
            () = place.connection.told_to_leave() => return,
            _ = ending.changed(), if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            outcome = poll_fn(|context| connection.poll_without_shutdown(context)) => break outcome,
        }
    };
    if outcome.is_ok() {
        let Parts { io, .. } = connection.into_parts();
        let mut stream = io.into_inner();
        let _ = poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await;
        if place.connection.has_refused() {
            tokio::select! {
                () = place.connection.told_to_leave() => {}
                _ = tokio::time::timeout(LINGER, discard(&mut stream)) => {}
            }
        }
    }
}

/// Reads to the end, within bounds. To close a socket that has bytes unread resets it, and a reset takes the answer away from the client.
async fn discard(stream: &mut Stream) {
    let mut buffer = vec![0; 16 << 10];
    let mut total = 0;
    while total < LINGER_BYTES {
        let mut room = ReadBuf::new(&mut buffer);
        if poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut room)).await.is_err() || room.filled().is_empty() {
            return;
        }
        total += room.filled().len();
    }
}
