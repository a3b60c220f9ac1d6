//! Where the time of a training step goes, on the CPU's own kernels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use burn::tensor::{Int, Tensor};
use timburn_core::Result;
pub use timburn_kernels::profile::peak;
use timburn_kernels::profile::{ConvPass, Event, Work, listen};
use timburn_models::ImageModel;

use crate::{Learner, Rates, Targets};

/// Time of one class of work in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTime {
    /// What is computed.
    pub name: String,
    /// All of its time in the step.
    pub time: Duration,
    /// Multiplications and additions of convolutions as they are defined, however they are computed (Winograd's filtering does up to four
    /// times fewer); 0 of anything else.
    pub operations: u64,
    /// Bytes that have to be read and written at least; 0 where that is not known.
    pub bytes: u64,
}

impl<M: ImageModel> Learner<M> {
    /// One [`backward`](Self::backward) and one [`update_at`](Self::update_at), and the time of each class of their work: the parts of convolutions by
    /// kind of layer and pass, normalisation, pooling, shortcuts, head and loss, update, and what Burn does between the kernels. The times add up to the step's. No parts where the kernels of the backend `flex` do not run.
    ///
    /// # Errors
    /// As the two.
    pub fn profile(mut self, images: Tensor<4>, targets: Targets, labels: Tensor<1, Int>, rates: Rates) -> Result<(Self, Vec<PartTime>)> {
        let begin = Instant::now();
        let (result, events) = listen(|| -> Result<_> {
            self.backward(images, targets, labels)?;
            let between = Instant::now();
            let (learner, _) = self.update_at(rates)?;
            Ok((learner, between))
        });
        let end = Instant::now();
        let (learner, between) = result?;
        Ok((learner, parts(&events, [begin, between, end])))
    }
}

/// The parts of a step from its kernels, in order, and from when it began, when the gradients were there, and when it ended.
fn parts(events: &[Event], [begin, between, end]: [Instant; 3]) -> Vec<PartTime> {
    let Some(turn) = events.iter().position(|event| event.work.is_backward()) else { return Vec::new() };
    // From the first fully connected layer to the last of their gradients, with what lies before the one and after the other: pooling.
    let is_linear = |event: &Event| matches!(event.work, Work::Linear { .. });
    let begins = events.iter().position(is_linear).map_or(turn, |first| first.min(turn));
    let ends = events.iter().rposition(is_linear).map_or(turn, |last| turn.max(last + 1));
    let head = begins..=ends;
    let mut sums: BTreeMap<(usize, String), (Duration, u64, u64)> = BTreeMap::new();
    let mut add = |name: (usize, String), time: Duration, operations: u64, bytes: u64| {
        let sum = sums.entry(name).or_default();
        *sum = (sum.0 + time, sum.1 + operations, sum.2 + bytes);
    };
    let mut last = begin;
    for (index, event) in events.iter().enumerate() {
        if event.begin >= between {
            add((UPDATE, "update".into()), Duration::ZERO, 0, event.bytes);
            continue;
        }
        let gap =
            if head.contains(&index) { (HEAD, "head and loss".into()) } else { (OTHER, "between the kernels: Burn's operations".into()) };
        add(gap, event.begin.saturating_duration_since(last), 0, 0);
        add(class(&event.work), event.end.saturating_duration_since(event.begin), event.operations, event.bytes);
        last = event.end;
    }
    add((OTHER, "between the kernels: Burn's operations".into()), between.saturating_duration_since(last), 0, 0);
    add((UPDATE, "update".into()), end.saturating_duration_since(between), 0, 0);
    let part = |((_, name), (time, operations, bytes))| PartTime { name, time, operations, bytes };
    sums.into_iter().map(part).collect()
}

/// Places of the classes in a table: convolutions come first, by layer and pass.
const NORM: usize = 100;
const POOL: usize = 110;
const SUM: usize = 115;
const HEAD: usize = 120;
const OTHER: usize = 130;
const UPDATE: usize = 140;

/// Where a kernel's class stands in the table, and its name.
fn class(work: &Work) -> (usize, String) {
    let direction = |backward: bool| if backward { "backward" } else { "forward" };
    match *work {
        Work::Convolution { pass, inputs, outputs, kernel: [height, width], stride, groups } => {
            let strided = stride != [1, 1];
            let (place, layer) = if groups > 1 && groups == inputs && groups == outputs {
                (40, "depthwise".to_owned())
            } else if groups > 1 {
                (50, format!("{height}x{width} grouped"))
            } else if inputs <= 4 && (height, width) != (1, 1) {
                (0, format!("{height}x{width} stem"))
            } else if (height, width) == (1, 1) {
                (10, "1x1".to_owned())
            } else {
                (20, format!("{height}x{width}"))
            };
            let (place, layer) = if strided && place != 0 { (place + 5, format!("{layer} strided")) } else { (place, layer) };
            let (order, pass) = match pass {
                ConvPass::Forward => (0, "forward"),
                ConvPass::InputGradient => (1, "input gradient"),
                ConvPass::WeightGradient => (2, "weight gradient"),
                ConvPass::BiasGradient => (3, "bias gradient"),
            };
            (place + order, format!("convolution {layer}, {pass}"))
        }
        Work::Linear { .. } => (HEAD, "head and loss".to_owned()),
        Work::Norm { backward } => (NORM + usize::from(backward), format!("batch norm, {}", direction(backward))),
        Work::MaxPool { backward } => (POOL + usize::from(backward), format!("maximum pool, {}", direction(backward))),
        Work::Subsample { backward } => (SUM - 2 + usize::from(backward), format!("shortcut, {}", direction(backward))),
        Work::Sum => (SUM, "gradients of shortcuts, added".to_owned()),
        Work::Update => (UPDATE, "update".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_step() {
        let begin = Instant::now();
        let at = |milliseconds: u64| begin + Duration::from_millis(milliseconds);
        let event = |work, operations, from, to| Event { work, operations, bytes: 8, begin: at(from), end: at(to) };
        let conv = |pass, inputs, kernel: usize, stride: usize, groups| Work::Convolution {
            pass,
            inputs,
            outputs: 16,
            kernel: [kernel; 2],
            stride: [stride; 2],
            groups,
        };
        let events = [
            event(conv(ConvPass::Forward, 3, 7, 2, 1), 100, 1, 11),
            event(conv(ConvPass::Forward, 16, 3, 1, 1), 50, 11, 13),
            event(conv(ConvPass::Forward, 16, 3, 1, 1), 50, 15, 18),
            event(Work::Norm { backward: false }, 0, 18, 20),
            event(Work::Linear { pass: ConvPass::Forward }, 5, 21, 22),
            event(Work::Linear { pass: ConvPass::WeightGradient }, 6, 27, 29),
            event(Work::Norm { backward: true }, 0, 30, 33),
            event(conv(ConvPass::WeightGradient, 16, 1, 2, 1), 7, 33, 40),
            event(conv(ConvPass::InputGradient, 16, 3, 2, 16), 8, 44, 45),
            event(Work::Update, 0, 51, 55),
        ];
        let found = parts(&events, [at(0), at(50), at(60)]);
        let rows: Vec<_> = found.iter().map(|part| (part.name.as_str(), part.time.as_millis(), part.operations, part.bytes)).collect();
        assert_eq!(
            rows,
            [
                ("convolution 7x7 stem, forward", 10, 100, 8),
                ("convolution 1x1 strided, weight gradient", 7, 7, 8),
                ("convolution 3x3, forward", 5, 100, 16),
                ("convolution depthwise strided, input gradient", 1, 8, 8),
                ("batch norm, forward", 2, 0, 8),
                ("batch norm, backward", 3, 0, 8),
                ("head and loss", 10, 11, 16),
                ("between the kernels: Burn's operations", 12, 0, 0),
                ("update", 10, 0, 8),
            ]
        );
        assert_eq!(found.iter().map(|part| part.time).sum::<Duration>(), Duration::from_millis(60));
        assert!(parts(&[], [at(0), at(1), at(2)]).is_empty(), "another backend");
    }
}
