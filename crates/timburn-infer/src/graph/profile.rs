//! Where the time goes.

use std::time::Duration;

use timburn_core::Result;
use timburn_kernels::infer::{Element, Map};

use super::compile::{Step, StepOp};
use super::plan::Plan;
use super::{Body, Graph, Program, Wanted, run};

/// Time of one part of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTime {
    /// What is computed, and on what size.
    pub name: String,
    /// Least time over the runs.
    pub time: Duration,
    /// Multiplications and additions of its convolutions, for all images.
    pub operations: usize,
}

impl Graph {
    /// Computes zeros of this shape `[n, channels, height, width]` several times, as one batch, and tells the least time of each layer.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn profile(&self, shape: [usize; 4], runs: usize) -> Result<Vec<LayerTime>> {
        match &self.body {
            Body::F32(program) => program.profile(shape, runs),
            Body::Bf16(program) => program.profile(shape, runs),
        }
    }
}

impl<T: Element> Program<T> {
    fn profile(&self, shape: [usize; 4], runs: usize) -> Result<Vec<LayerTime>> {
        let [n, channels, height, width] = shape;
        if channels != self.channels {
            return Err(super::argument("images", &format!("{shape:?}"), &format!("[n, {}, height, width]", self.channels)));
        }
        let plan = self.plan([height, width])?;
        let mut layers = vec![LayerTime { name: format!("images to {n}x{channels}x{height}x{width}"), time: Duration::MAX, operations: 0 }];
        layers.extend(self.steps.iter().enumerate().map(|(index, step)| layer(step, &plan, index, n)));
        let head = self.head.as_ref().map_or(0, |head| 2 * n * head.spec().multiplications());
        layers.push(LayerTime { name: "pool and classifier".into(), time: Duration::MAX, operations: head });
        let (images, mut slots) = (vec![0.0; n * channels * height * width], Vec::new());
        let wanted = if self.head.is_some() { Wanted::Logits } else { Wanted::Features };
        for _ in 0..runs {
            // Layers that are run image by image are heard of once for each.
            let mut times = vec![Duration::ZERO; layers.len()];
            let mut spent = |part: usize, time| {
                if let Some(total) = times.get_mut(part) {
                    *total += time;
                }
            };
            run::together(|| run::run(self, &plan, &images, n, &mut slots, wanted, &mut spent));
            for (layer, time) in layers.iter_mut().zip(times) {
                layer.time = layer.time.min(time);
            }
        }
        Ok(layers)
    }
}

fn layer<T: Element>(step: &Step<T>, plan: &Plan, index: usize, n: usize) -> LayerTime {
    let (input, output): (&Map, &Map) = (&plan.maps[step.input], &plan.maps[index + 1]);
    let mut operations = 0;
    let what = match &step.op {
        StepOp::Conv(conv) => {
            let spec = conv.spec();
            operations = 2 * n * output.height * output.width * spec.multiplications();
            let [height, width] = spec.kernel;
            let groups = if spec.groups == 1 { String::new() } else { format!(" groups {}", spec.groups) };
            format!("convolution {height}x{width} stride {}{groups}", spec.stride)
        }
        StepOp::Expand([expand, depthwise], _) => {
            let pixels = [input.height * input.width, output.height * output.width];
            let works = [expand, depthwise].map(|conv| conv.spec().multiplications());
            operations = 2 * n * (pixels[0] * works[0] + pixels[1] * works[1]);
            let [height, width] = depthwise.spec().kernel;
            format!("expansion to {} and depthwise {height}x{width} stride {}", expand.spec().outputs, depthwise.spec().stride)
        }
        StepOp::MaxPool { .. } => "maximum pool".into(),
        StepOp::AveragePool { .. } => "average pool".into(),
        StepOp::Subsample { .. } => "subsample".into(),
        StepOp::SqueezeExcite(_) => "squeeze and excite".into(),
    };
    let name =
        format!("{what} {}x{}x{} to {}x{}x{}", input.channels, input.height, input.width, output.channels, output.height, output.width);
    LayerTime { name, time: Duration::MAX, operations }
}
