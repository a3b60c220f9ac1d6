//! `timburn serve`: the built binary, over real sockets.
//!
//! The uploads of `hostile_uploads_cost_neither_life_nor_memory` are a few hundred; all ten thousand of the promise, and the largest pictures:
//! `TIMBURN_UPLOADS=10000 cargo test --release --workspace --test serve -- --include-ignored hostile`.
#![cfg(feature = "serve")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "serve/client.rs"]
mod client;
mod common;
// Named so that it starts first: it waits for half a minute, beside which the others run.
#[path = "serve/dribble.rs"]
mod dribble;
#[path = "serve/flood.rs"]
mod flood;
#[path = "serve/granted.rs"]
mod granted;
#[path = "serve/hostile.rs"]
mod hostile;
#[path = "serve/life.rs"]
mod life;
#[path = "serve/refusals.rs"]
mod refusals;
