//! Open connections: how many there may be, and which one goes when there are too many.
//!
//! A client that dribbles its headers holds a connection for ten seconds. So that such clients cannot lock others out, a connection that comes
//! when all places are taken gets that of the one that has been waiting for a request for longest. Where every connection has a request in
//! work, a few more are let in, for health checks only: whether the server lives must be seen most of all when it is full.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Connections beyond the cap, for health checks.
pub(super) const SPARE: usize = 32;

/// Waits for a request.
const IDLE: u8 = 0;
/// Has a request in work.
const BUSY: u8 = 1;
/// Has an answer on its way: made, and not all of it with the system yet.
const SENDING: u8 = 2;

/// The table of open connections.
#[derive(Debug)]
pub(super) struct Connections {
    cap: usize,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    all_closed: Notify,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    /// Let in for health checks only.
    spare: bool,
    /// [`IDLE`], [`BUSY`] or [`SENDING`].
    state: AtomicU8,
    idle_since: Mutex<Instant>,
    /// Told to make room.
    leaving: AtomicBool,
    leave: Notify,
    /// Whether its last answer was a refusal: its client may still be sending.
    refused: AtomicBool,
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) connection: Arc<Connection>,
    table: Arc<Connections>,
}

/// A request in work, until dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Connection>);

impl Connections {
    pub(super) fn new(cap: usize) -> Arc<Self> {
        Arc::new(Self { cap, open: Mutex::default(), all_closed: Notify::new() })
    }

    pub(super) fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A place for a new connection; none when even the spare ones are taken.
    pub(super) fn admit(self: &Arc<Self>, number: u64) -> Option<Admitted> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut staying = open.values().filter(|connection| !connection.leaving.load(Ordering::SeqCst)).count();
        if staying >= self.cap && leave(&open) {
            staying -= 1;
        }
        if staying >= self.cap + SPARE {
            return None;
        }
        let spare = staying >= self.cap;
        let connection = Arc::new(Connection {
            number,
            spare,
            state: AtomicU8::new(IDLE),
            idle_since: Mutex::new(Instant::now()),
            leaving: AtomicBool::new(false),
            leave: Notify::new(),
            refused: AtomicBool::new(false),
        });
        open.insert(number, Arc::clone(&connection));
        Some(Admitted { connection, table: Arc::clone(self) })
    }

    /// Tells the connection that has waited for a request for longest to leave; false when there is none.
    pub(super) fn make_room(&self) -> bool {
        leave(&self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is no connection.
    pub(super) async fn closed(&self) {
        loop {
            let notified = self.all_closed.notified();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

fn leave(open: &HashMap<u64, Arc<Connection>>) -> bool {
    let idle = open.values().filter(|connection| connection.is_idle() && !connection.leaving.load(Ordering::SeqCst));
    let oldest = idle.min_by_key(|connection| (connection.idle_since(), connection.number));
    if let Some(connection) = oldest {
        connection.leaving.store(true, Ordering::SeqCst);
        connection.leave.notify_one();
    }
    oldest.is_some()
}

impl Connection {
    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.state.store(BUSY, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }

    /// Whether its requests are refused, health checks excepted: it is one too many, or was idle when another one needed its place.
    pub(super) fn only_health(&self) -> bool {
        self.spare || self.leaving.load(Ordering::SeqCst)
    }

    /// All that was to be sent is with the system.
    pub(super) fn flushed(&self) {
        if self.state.load(Ordering::SeqCst) == SENDING {
            *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            // A request that has begun meanwhile keeps it busy.
            let _ = self.state.compare_exchange(SENDING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Waits until the connection is to make room. One to which a request came at the last moment refuses it and ends by itself.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
        if !self.is_idle() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn set_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Release);
    }

    pub(super) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    fn is_idle(&self) -> bool {
        self.state.load(Ordering::SeqCst) == IDLE
    }

    fn idle_since(&self) -> Instant {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.state.store(SENDING, Ordering::SeqCst);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.table.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.connection.number);
        if open.is_empty() {
            self.table.all_closed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_makes_room_and_the_busy_stay() {
        let table = Connections::new(2);
        let (first, second) = (table.admit(1).unwrap(), table.admit(2).unwrap());
        let busy = first.connection.begin();
        let third = table.admit(3).unwrap();
        assert!(!third.connection.spare && second.connection.leaving.load(Ordering::Relaxed));
        assert!(!first.connection.leaving.load(Ordering::Relaxed));
        drop(second);
        let also_busy = third.connection.begin();
        // Nobody can go: the rest is for health checks.
        let spare: Vec<_> = (4..4 + SPARE as u64).map(|number| table.admit(number).unwrap()).collect();
        assert!(spare.iter().all(|place| place.connection.spare));
        // The spare ones are idle, and go like others.
        assert!(spare[0].connection.leaving.load(Ordering::Relaxed));
        drop((busy, also_busy, spare));
        assert_eq!(table.count(), 2);
        // An answer that is not sent yet is not cut off.
        assert!(!first.connection.is_idle());
        first.connection.flushed();
        assert!(first.connection.is_idle() && !third.connection.is_idle());
    }

    #[test]
    fn with_all_busy_the_spare_places_end_too() {
        let table = Connections::new(1);
        let places: Vec<_> =
            (0..=SPARE as u64).map(|number| table.admit(number).map(|place| (place.connection.begin(), place)).unwrap()).collect();
        assert!(table.admit(1000).is_none());
        drop(places);
        assert!(!table.admit(1001).unwrap().connection.spare);
    }
}
