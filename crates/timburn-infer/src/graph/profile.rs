//! Where the time goes.

use std::time::Duration;

use timburn_core::Result;
use timburn_kernels::infer::Map;

use super::network::Network;
use super::plan::{Plan, Planned};
use super::{Body, Graph, Wanted, each, run};

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
        each!(&self.body, program => profile(program, shape, runs))
    }
}

fn profile<N: Network>(network: &N, shape: [usize; 4], runs: usize) -> Result<Vec<LayerTime>> {
    let [n, channels, height, width] = shape;
    let len =
        shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent)).filter(|&len| len > 0 && channels == network.channels());
    let Some(len) = len else {
        return Err(super::argument("images", &format!("{shape:?}"), &format!("[n, {}, height, width]", network.channels())));
    };
    let plan = network.plan([height, width])?;
    let mut layers = vec![LayerTime { name: format!("images to {n}x{channels}x{height}x{width}"), time: Duration::MAX, operations: 0 }];
    layers.extend(network.steps().iter().enumerate().map(|(index, step)| layer(step, &plan, index, n)));
    let head = network.head().map_or(0, |head| 2 * n * head.multiplications());
    layers.push(LayerTime { name: "pool and classifier".into(), time: Duration::MAX, operations: head });
    let (images, mut slots) = (vec![0.0; len], Vec::new());
    let wanted = if network.head().is_some() { Wanted::Logits } else { Wanted::Features };
    for _ in 0..runs.max(1) {
        // Layers that are run image by image are heard of once for each.
        let mut times = vec![Duration::ZERO; layers.len()];
        let mut spent = |part: usize, time| {
            if let Some(total) = times.get_mut(part) {
                *total += time;
            }
        };
        run::together(|| run::run(network, &plan, &images, n, &mut slots, wanted, &mut spent));
        for (layer, time) in layers.iter_mut().zip(times) {
            layer.time = layer.time.min(time);
        }
    }
    Ok(layers)
}

fn layer(step: &impl Planned, plan: &Plan, index: usize, n: usize) -> LayerTime {
    let (input, output): (&Map, &Map) = (&plan.maps[step.input()], &plan.maps[index + 1]);
    let (what, operations) = step.work(input, output);
    let name =
        format!("{what} {}x{}x{} to {}x{}x{}", input.channels, input.height, input.width, output.channels, output.height, output.width);
    LayerTime { name, time: Duration::MAX, operations: n * operations }
}
