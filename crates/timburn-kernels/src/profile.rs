//! Where the time of a training step goes: who asks is told of each kernel that ran.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use macerator::{Simd, VMulAdd, WithSimd};

use crate::cpu::tile::{Lanes, lanes, splat};
use crate::level::AutoArch;

/// What a kernel computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A convolution, or one of its gradients.
    Convolution {
        /// Which of them.
        pass: ConvPass,
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
        /// Height and width of the kernel.
        kernel: [usize; 2],
        /// Down and across.
        stride: [usize; 2],
        /// Groups of channels.
        groups: usize,
    },
    /// A fully connected layer, or one of its gradients.
    Linear {
        /// Which of them.
        pass: ConvPass,
    },
    /// A batch normalisation with what follows it.
    Norm {
        /// Whether it is the gradient.
        backward: bool,
    },
    /// The stem's maximum pooling.
    MaxPool {
        /// Whether it is the gradient.
        backward: bool,
    },
    /// A shortcut's selection of pixels.
    Subsample {
        /// Whether it is the gradient.
        backward: bool,
    },
    /// The sum of two gradients of a tensor that two operations read: a shortcut.
    Sum,
    /// An optimizer's step, or an average of weights.
    Update,
}

/// The three passes of a convolution or a fully connected layer, and the sum that is its bias' gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvPass {
    /// The output.
    Forward,
    /// The gradient of the input.
    InputGradient,
    /// The gradient of the weight.
    WeightGradient,
    /// The gradient of the bias.
    BiasGradient,
}

impl Work {
    /// Whether it belongs to the backward pass.
    pub fn is_backward(&self) -> bool {
        match self {
            Self::Convolution { pass, .. } | Self::Linear { pass } => *pass != ConvPass::Forward,
            Self::Norm { backward } | Self::MaxPool { backward } | Self::Subsample { backward } => *backward,
            Self::Sum => true,
            Self::Update => false,
        }
    }
}

/// A kernel that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What it computed.
    pub work: Work,
    /// Multiplications and additions of a convolution or a fully connected layer as it is defined, however it was computed; 0 of anything else.
    pub operations: u64,
    /// Bytes that have to be read and written at least.
    pub bytes: u64,
    /// When it began.
    pub begin: Instant,
    /// When it ended.
    pub end: Instant,
}

static LISTENING: AtomicBool = AtomicBool::new(false);
static EVENTS: Mutex<Vec<Event>> = Mutex::new(Vec::new());

fn events() -> MutexGuard<'static, Vec<Event>> {
    EVENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` and tells the kernels that ran meanwhile in this process, in order. One caller at a time: who asks while another listens
/// takes the events over.
pub fn listen<T>(work: impl FnOnce() -> T) -> (T, Vec<Event>) {
    struct Listening;
    impl Drop for Listening {
        fn drop(&mut self) {
            LISTENING.store(false, Ordering::Relaxed);
        }
    }
    events().clear();
    LISTENING.store(true, Ordering::Relaxed);
    let listening = Listening;
    let result = work();
    drop(listening);
    (result, std::mem::take(&mut *events()))
}

/// Runs a kernel; where somebody listens, tells of it. `what` gives the work, its operations and the bytes that it reads and writes.
#[inline]
pub(crate) fn tell<T>(what: impl FnOnce() -> (Work, usize, usize), kernel: impl FnOnce() -> T) -> T {
    if !LISTENING.load(Ordering::Relaxed) {
        return kernel();
    }
    let (work, operations, bytes) = what();
    let begin = Instant::now();
    let result = kernel();
    let event = Event { work, operations: operations as u64, bytes: bytes as u64, begin, end: Instant::now() };
    events().push(event);
    result
}

/// Multiplications and additions (f32) that this processor's threads do in a second at most, in kernels of this crate's level: the best of
/// several runs of a loop of nothing else. Takes a tenth of a second, without vectors some seconds.
pub fn peak() -> f64 {
    /// Sums that do not wait for each other: more than any processor's units have stages.
    const SUMS: usize = 12;
    const ROUNDS: usize = 1 << 21;
    struct Loop;
    impl WithSimd for Loop {
        /// Operations, and something that depends on all of them.
        type Output = (usize, f32);
        #[inline(always)]
        #[allow(clippy::assign_op_pattern, reason = "the compiler does not inline the operator that assigns")]
        fn with_simd<S: Simd>(self) -> (usize, f32) {
            let (factor, more): (Lanes<S>, Lanes<S>) = (splat::<S>(std::hint::black_box(0.999)), splat::<S>(std::hint::black_box(1e-3)));
            let mut sums = [more; SUMS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = f32::vmul_add(*sum, factor, more);
                }
            }
            let mut all = more;
            for sum in sums {
                all = all + sum;
            }
            let mut values = [0f32; crate::cpu::tile::MAX_LANES];
            // SAFETY: no vector has more lanes.
            unsafe { macerator::vstore_unaligned(values.as_mut_ptr(), all) };
            (2 * SUMS * ROUNDS * lanes::<S>(), values.iter().sum())
        }
    }
    let run = || {
        let begin = Instant::now();
        let operations: usize = rayon::broadcast(|_| {
            let (operations, sum) = AutoArch::new().dispatch(Loop);
            std::hint::black_box(sum);
            operations
        })
        .into_iter()
        .sum();
        operations as f64 / begin.elapsed().as_secs_f64().max(1e-9)
    };
    (0..5).map(|_| run()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_hears_what_ran_and_nobody_else() {
        let what = || (Work::Update, 6, 20);
        assert_eq!(tell(what, || 1), 1);
        let (result, events) = listen(|| tell(what, || 2));
        assert_eq!(result, 2);
        let mine: Vec<_> = events.iter().filter(|event| event.operations == 6).collect();
        assert_eq!(mine.len(), 1, "{events:?}");
        assert_eq!((mine[0].work, mine[0].bytes), (Work::Update, 20));
        assert!(mine[0].begin <= mine[0].end);
        let caught = std::panic::catch_unwind(|| listen(|| panic!("within")));
        assert!(caught.is_err() && !LISTENING.load(Ordering::Relaxed), "a panic ends it");
    }

    #[test]
    fn the_peak_is_a_rate() {
        let peak = peak();
        assert!(peak.is_finite() && peak > 1e7, "{peak}");
    }
}
