//! One thread a model: gathers the pictures that come at the same time into a batch and runs it.
//!
//! A picture that comes alone is run at once. Where more are being decoded for the same model the thread waits for them, for the latency
//! budget at most, counted from when the first picture of the batch was ready.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use timburn_core::panic::panic_message;
use timburn_core::{Error, Result};
use timburn_data::Rgb8Image;
use tokio::sync::oneshot;

/// How often a thread that waits for pictures looks whether any are still coming: one that cannot be decoded never comes.
const GLANCE: Duration = Duration::from_micros(500);

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Pictures in a batch.
    pub(super) pictures: usize,
    /// How long the first picture waits for others that are on their way.
    pub(super) budget: Duration,
}

/// The answer for one picture, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answered<T> {
    pub(super) answer: T,
    /// From the picture's being ready to the start of its batch.
    pub(super) queued: Duration,
    /// The batch's forward pass.
    pub(super) forward: Duration,
}

/// Why a picture has no answer: words for the log.
pub(super) type Failure = String;

#[derive(Debug)]
struct Job<T> {
    picture: Rgb8Image,
    ready: Instant,
    reply: oneshot::Sender<Result<Answered<T>, Failure>>,
}

/// The way to the thread. When the last one is gone, the thread ends.
#[derive(Debug, Clone)]
pub(super) struct Batcher<T> {
    jobs: Sender<Job<T>>,
    coming: Arc<AtomicUsize>,
}

/// A picture on its way: while this lives the thread may wait for it.
#[derive(Debug)]
pub(super) struct Coming(Arc<AtomicUsize>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T: Send + 'static> Batcher<T> {
    /// Starts the thread. `classify` gives one answer a picture, in order; `ran` hears of every forward pass: pictures and time.
    ///
    /// # Errors
    /// [`Error::Io`] when the system has no thread left.
    pub(super) fn start(
        limits: Limits,
        classify: impl FnMut(&[Rgb8Image]) -> Result<Vec<T>> + Send + 'static,
        ran: impl Fn(usize, Duration) + Send + 'static,
    ) -> Result<Self> {
        let (jobs, received) = channel();
        let coming = Arc::new(AtomicUsize::new(0));
        let worker = Worker { limits, coming: Arc::clone(&coming), classify, ran };
        let started = std::thread::Builder::new().name("inference".into()).spawn(move || worker.run(&received));
        started.map_err(Error::io("start", "the thread for inference"))?;
        Ok(Self { jobs, coming })
    }

    /// Announces a picture.
    pub(super) fn expect(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(&self.coming))
    }

    /// Hands a picture over and waits for its answer. Given up, a picture that has not been run yet is not.
    pub(super) async fn answer(&self, coming: Coming, picture: Rgb8Image) -> Result<Answered<T>, Failure> {
        let (reply, answer) = oneshot::channel();
        let sent = self.jobs.send(Job { picture, ready: Instant::now(), reply });
        drop(coming);
        sent.map_err(|_| "the thread for inference is gone".to_owned())?;
        answer.await.unwrap_or_else(|_| Err("the thread for inference gave no answer".into()))
    }
}

struct Worker<C, R> {
    limits: Limits,
    coming: Arc<AtomicUsize>,
    classify: C,
    ran: R,
}

impl<C, R: Fn(usize, Duration)> Worker<C, R> {
    fn run<T>(mut self, jobs: &Receiver<Job<T>>)
    where
        C: FnMut(&[Rgb8Image]) -> Result<Vec<T>>,
    {
        while let Ok(first) = jobs.recv() {
            let mut batch = self.gather(first, jobs);
            batch.retain(|job| !job.reply.is_closed());
            if !batch.is_empty() {
                self.classify(batch);
            }
        }
    }

    fn gather<T>(&self, first: Job<T>, jobs: &Receiver<Job<T>>) -> Vec<Job<T>> {
        let deadline = first.ready + self.limits.budget;
        let mut batch = vec![first];
        while batch.len() < self.limits.pictures {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || self.coming.load(Ordering::Acquire) == 0 {
                        // Between the look at the queue and that at the counter one may have come.
                        batch.extend(jobs.try_recv().ok());
                        break;
                    }
                    match jobs.recv_timeout(left.min(GLANCE)) {
                        Ok(job) => batch.push(job),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            }
        }
        batch
    }

    fn classify<T>(&mut self, batch: Vec<Job<T>>)
    where
        C: FnMut(&[Rgb8Image]) -> Result<Vec<T>>,
    {
        let started = Instant::now();
        let (pictures, waiting): (Vec<Rgb8Image>, Vec<_>) = batch.into_iter().map(|job| (job.picture, (job.ready, job.reply))).unzip();
        let mut outcomes = match self.forward(&pictures) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(failure) if pictures.len() == 1 => vec![Err(failure)],
            // A batch that fails as a whole is tried picture by picture: too large for the device, or one of them is at fault.
            Err(_) => pictures
                .iter()
                .map(|picture| self.forward(std::slice::from_ref(picture)).and_then(|answers| answers.into_iter().next().ok_or_else(none)))
                .collect::<Vec<_>>(),
        }
        .into_iter();
        let forward = started.elapsed();
        (self.ran)(pictures.len(), forward);
        for (ready, reply) in waiting {
            let queued = started.saturating_duration_since(ready);
            let outcome = outcomes.next().unwrap_or_else(|| Err(none()));
            // Who asked may be gone.
            let _ = reply.send(outcome.map(|answer| Answered { answer, queued, forward }));
        }
    }

    fn forward<T>(&mut self, pictures: &[Rgb8Image]) -> Result<Vec<T>, Failure>
    where
        C: FnMut(&[Rgb8Image]) -> Result<Vec<T>>,
    {
        match catch_unwind(AssertUnwindSafe(|| (self.classify)(pictures))) {
            Ok(answers) => answers.map_err(|error| error.to_string()),
            Err(panic) => Err(format!("panic: {}", panic_message(panic.as_ref()))),
        }
    }
}

fn none() -> Failure {
    "the model gave no answer".into()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn picture(tag: usize) -> Rgb8Image {
        Rgb8Image { width: tag, height: 0, pixels: Vec::new() }
    }

    type Sizes = Arc<Mutex<Vec<usize>>>;

    /// Answers with a picture's width after 20 ms; panics on 13, fails on 14, and fails on every batch with a 15 in it unless alone.
    fn batcher(pictures: usize, budget: u64) -> (Batcher<usize>, Sizes) {
        let sizes = Sizes::default();
        let seen = Arc::clone(&sizes);
        let classify = |pictures: &[Rgb8Image]| {
            std::thread::sleep(Duration::from_millis(20));
            let tags: Vec<usize> = pictures.iter().map(|picture| picture.width).collect();
            assert!(!tags.contains(&13), "thirteen");
            if tags.contains(&14) || tags.contains(&15) && tags.len() > 1 {
                return Err(Error::Argument { name: "images", value: "14".into(), expected: "another".into() });
            }
            Ok(tags)
        };
        let ran = move |pictures, _| seen.lock().unwrap().push(pictures);
        let limits = Limits { pictures, budget: Duration::from_millis(budget) };
        (Batcher::start(limits, classify, ran).unwrap(), sizes)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn ask(batcher: Batcher<usize>, tag: usize) -> Result<usize, Failure> {
        let coming = batcher.expect();
        batcher.answer(coming, picture(tag)).await.map(|answered| answered.answer)
    }

    #[test]
    fn what_comes_together_is_run_together_and_each_gets_its_own() {
        let (batcher, sizes) = batcher(8, 5);
        block_on(async {
            let asked: Vec<_> = (100..120).map(|tag| tokio::spawn(ask(batcher.clone(), tag))).collect();
            for (tag, answer) in (100..).zip(asked) {
                assert_eq!(answer.await.unwrap(), Ok(tag));
            }
        });
        let sizes = sizes.lock().unwrap();
        assert_eq!(sizes.iter().sum::<usize>(), 20);
        assert!(sizes.iter().all(|&size| size <= 8) && sizes.contains(&8), "{sizes:?}");
    }

    #[test]
    fn one_alone_waits_for_nobody_and_one_in_company_for_the_budget_at_most() {
        let (batcher, _) = batcher(8, 400);
        block_on(async {
            let started = Instant::now();
            let coming = batcher.expect();
            let alone = batcher.answer(coming, picture(1)).await.unwrap();
            assert!(started.elapsed() < Duration::from_millis(300), "{:?}", started.elapsed());
            assert!(alone.forward >= Duration::from_millis(20));

            // Another is announced and never comes.
            let other = batcher.expect();
            let coming = batcher.expect();
            let waited = batcher.answer(coming, picture(2)).await.unwrap();
            assert!(waited.queued >= Duration::from_millis(350), "{waited:?}");
            drop(other);
        });
    }

    #[test]
    fn a_panic_and_a_failure_are_the_affairs_of_their_pictures_alone() {
        let (batcher, _) = batcher(8, 50);
        block_on(async {
            let asked: Vec<_> = [1, 13, 14, 15, 16].map(|tag| tokio::spawn(ask(batcher.clone(), tag))).into();
            let mut answers = Vec::new();
            for answer in asked {
                answers.push(answer.await.unwrap());
            }
            assert_eq!([&answers[0], &answers[3], &answers[4]], [&Ok(1), &Ok(15), &Ok(16)]);
            assert!(answers[1].as_ref().unwrap_err().contains("thirteen") && answers[2].as_ref().unwrap_err().contains("14"));
            assert_eq!(ask(batcher.clone(), 2).await, Ok(2), "the thread lives on");
        });
    }

    #[test]
    fn who_has_gone_is_not_served() {
        let (batcher, sizes) = batcher(1, 0);
        block_on(async {
            let first = tokio::spawn(ask(batcher.clone(), 1));
            tokio::time::sleep(Duration::from_millis(5)).await;
            let gone: Vec<_> = (2..8).map(|tag| tokio::spawn(ask(batcher.clone(), tag))).collect();
            tokio::time::sleep(Duration::from_millis(5)).await;
            gone.iter().for_each(tokio::task::JoinHandle::abort);
            first.await.unwrap().unwrap();
            ask(batcher.clone(), 9).await.unwrap();
        });
        assert_eq!(*sizes.lock().unwrap(), [1, 1]);
    }
}
