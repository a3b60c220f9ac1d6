//! An observer that keeps everything and can ask for a stop.

use timburn_core::Result;
use timburn_train::trainer::{EndEvent, Ending, EpochEvent, EvaluationEvent, StepEvent};
use timburn_train::{Observer, StopFlag};

#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) flag: StopFlag,
    /// Asks for a stop after this step.
    pub(crate) stop_after: Option<u64>,
    /// Asks for a stop in the middle of the evaluation after so many.
    pub(crate) stop_in: Option<usize>,
    pub(crate) steps: Vec<StepEvent>,
    pub(crate) evaluations: Vec<EvaluationEvent>,
    pub(crate) epochs: Vec<EpochEvent>,
    pub(crate) ending: Option<Ending>,
    /// All of it in the order it happened, every number exact, without times.
    pub(crate) log: Vec<String>,
}

impl Watch {
    pub(crate) fn stopping_after(step: u64) -> Self {
        Self { stop_after: Some(step), ..Self::default() }
    }
}

impl Observer for Watch {
    fn step(&mut self, event: &StepEvent) -> Result<()> {
        let StepEvent { step, epoch, done, loss, top1, lr, gradient_norm, skipped, samples, ref bad, .. } = *event;
        self.log.push(format!("step {:?}", (step, epoch, done, loss, top1, lr, gradient_norm, skipped, samples, bad)));
        self.steps.push(event.clone());
        if self.stop_after == Some(event.step) {
            self.flag.request();
        }
        Ok(())
    }

    fn evaluating(&mut self, _done: usize, _total: usize) {
        if self.stop_in == Some(self.evaluations.len()) {
            self.flag.request();
        }
    }

    fn evaluation(&mut self, event: &EvaluationEvent) -> Result<()> {
        let EvaluationEvent { step, epoch, ref report, ema, best, ref bad, .. } = *event;
        self.log.push(format!("evaluation {:?}", (step, epoch, ema, best, bad, report)));
        self.evaluations.push(event.clone());
        Ok(())
    }

    fn epoch(&mut self, event: &EpochEvent) -> Result<()> {
        let EpochEvent { epoch, step, loss, top1, lr, samples, ref evaluation, .. } = *event;
        self.log.push(format!("epoch {:?}", (epoch, step, loss, top1, lr, samples, evaluation)));
        self.epochs.push(event.clone());
        Ok(())
    }

    fn end(&mut self, event: &EndEvent) -> Result<()> {
        self.ending = Some(event.ending);
        Ok(())
    }
}
