//! Bounds on memory: bytes of bodies and pixels of pictures that are in hand at any time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// An amount that is taken and given back.
#[derive(Debug)]
pub(super) struct Budget {
    left: Mutex<u64>,
    freed: Condvar,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Budget>,
    amount: u64,
}

impl Budget {
    pub(super) fn new(amount: u64) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(amount), freed: Condvar::new() })
    }

    /// A share of nothing, to be [grown](Share::grow).
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { of: Arc::clone(self), amount: 0 }
    }

    /// Waits, blocking the thread, until so much is left; `amount` must not be more than the whole.
    pub(super) fn wait(self: &Arc<Self>, amount: u64) -> Share {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while *left < amount {
            left = self.freed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= amount;
        Share { of: Arc::clone(self), amount }
    }
}

impl Share {
    /// Takes more; false, and nothing taken, when so much is not left.
    pub(super) fn grow(&mut self, more: u64) -> bool {
        let mut left = self.of.left.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = *left >= more;
        if enough {
            *left -= more;
            self.amount += more;
        }
        enough
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.of.left.lock().unwrap_or_else(PoisonError::into_inner) += self.amount;
        self.of.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(10);
        let mut share = budget.share();
        assert!(share.grow(4) && share.grow(6) && !share.grow(1));
        let waiting = {
            let budget = Arc::clone(&budget);
            std::thread::spawn(move || drop(budget.wait(10)))
        };
        drop(share);
        waiting.join().unwrap();
        assert_eq!(*budget.left.lock().unwrap(), 10);
    }
}
