//! SIGINT and SIGTERM: the first one asks for the end, the second one is the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use timburn_core::error::TrainError;
use timburn_core::{Error, Result};
use timburn_train::StopFlag;

use crate::output;

/// What the signals have asked for. From [`listen`](Self::listen) on, whoever works must look at the flag; until then a signal ends the
/// process as it ends any other.
#[derive(Clone)]
pub(crate) struct Interrupt {
    pub(crate) stop: StopFlag,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self> {
        let (stop, signal) = (StopFlag::default(), Arc::new(AtomicUsize::new(0)));
        for number in [SIGINT, SIGTERM] {
            let failed = || Error::io("listen for signals of", "this process");
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, stop.inner()).map_err(failed())?;
            signal_hook::flag::register(number, stop.inner()).map_err(failed())?;
            signal_hook::flag::register_usize(number, signal.clone(), number as usize).map_err(failed())?;
        }
        Ok(Self { stop, signal })
    }

    pub(crate) fn happened(&self) -> bool {
        self.stop.is_requested()
    }

    /// 130 after SIGINT, 143 after SIGTERM.
    pub(crate) fn code(&self) -> u8 {
        match self.signal.load(Ordering::Relaxed) {
            0 => 130,
            signal => 128 + signal as u8,
        }
    }

    /// The exit code in place of the error that only says that a signal came.
    pub(crate) fn settle(&self, outcome: Result<u8>) -> Result<u8> {
        match outcome {
            Err(Error::Train(TrainError::Interrupted)) => {
                output::note("stopped; nothing was kept");
                Ok(self.code())
            }
            outcome => outcome,
        }
    }
}
