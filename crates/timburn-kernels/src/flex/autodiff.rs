//! The operations with a graph: forward by the kernels, backward by hand.
//!
//! Inputs are kept as checkpoints, so that gradient checkpointing may compute them again; statistics and outputs that only the
//! backward pass needs are kept as they are.

use std::cell::Cell;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn_flex::FlexTensor;

use super::kernels::{self, NormState};
use super::{After, Kernels};
use crate::Activation;
use crate::cpu::conv::ConvShape;
use crate::cpu::subsample::Subsample;

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

/// How many gradients are remembered: more than lie between a shortcut's and the one that meets it.
const NOTED: usize = 16;

thread_local! {
    /// Tensors, not leaves, whose first gradient was registered last. Such a tensor belongs to one backward pass, which runs on one thread:
    /// Burn refuses another one through it. So the gradient is there until the tensor's own turn, and after that nobody asks.
    static FIRST: Cell<([Option<NodeId>; NOTED], usize)> = const { Cell::new(([None; NOTED], 0)) };
}

/// Registers a part of `$parent`'s gradient, and adds it to the part that is there already with all threads, where that is known to be: Burn's own
/// sum has one. `$node` is the operation's, which is no leaf. (A macro since Burn does not name the type of nodes.)
macro_rules! register {
    ($grads:ident, $parent:expr, $node:expr, $gradient:expr) => {{
        let (parent, mut gradient): (_, FlexTensor) = ($parent, $gradient);
        if parent.requirement == $node.requirement {
            let (mut noted, next) = FIRST.get();
            if noted.contains(&Some(parent.id)) {
                gradient = kernels::sum(gradient, $grads.consume::<Flex>(&parent));
            } else {
                noted[next % NOTED] = Some(parent.id);
                FIRST.set((noted, next + 1));
            }
        }
        $grads.register::<Flex>(parent.id, gradient);
    }};
}

#[derive(Debug)]
struct Conv;

impl Backward<Flex, 2> for Conv {
    type State = (NodeId, NodeId, ConvShape);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, weight] = ops.parents;
        let slope = grads.consume::<Flex>(&ops.node);
        let (x_state, weight_state, shape) = ops.state;
        let values: [FlexTensor; 2] = [x_state, weight_state].map(|state| checkpointer.retrieve_node_output(state));
        let [gradient, weight_gradient] = conv_backward([x.is_some(), weight.is_some()], values, &slope, &shape);
        if let (Some(weight), Some(gradient)) = (weight, weight_gradient) {
            grads.register::<Flex>(weight.id, gradient);
        }
        if let (Some(x), Some(gradient)) = (x, gradient) {
            register!(grads, x, ops.node, gradient);
        }
    }
}

#[derive(Debug)]
struct ConvBias;

impl Backward<Flex, 3> for ConvBias {
    type State = (NodeId, NodeId, ConvShape);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, weight, bias] = ops.parents;
        let slope = grads.consume::<Flex>(&ops.node);
        let (x_state, weight_state, shape) = ops.state;
        let values: [FlexTensor; 2] = [x_state, weight_state].map(|state| checkpointer.retrieve_node_output(state));
        if let Some(bias) = bias {
            grads.register::<Flex>(bias.id, kernels::conv_bias_gradient(&slope, &shape));
        }
        let [gradient, weight_gradient] = conv_backward([x.is_some(), weight.is_some()], values, &slope, &shape);
        if let (Some(weight), Some(gradient)) = (weight, weight_gradient) {
            grads.register::<Flex>(weight.id, gradient);
        }
        if let (Some(x), Some(gradient)) = (x, gradient) {
            register!(grads, x, ops.node, gradient);
        }
    }
}

/// Gradients of input and weight, where they are wanted.
fn conv_backward(
    [x, weight]: [bool; 2],
    [x_values, weight_values]: [FlexTensor; 2],
    slope: &FlexTensor,
    shape: &ConvShape,
) -> [Option<FlexTensor>; 2] {
    let weight_gradient = weight.then(|| kernels::conv_weight_gradient(&x_values, slope, shape));
    // Not needed any more: its memory may serve the input's gradient.
    drop(x_values);
    [x.then(|| kernels::conv_input_gradient(slope, &weight_values, shape)), weight_gradient]
}

/// What a normalisation keeps.
#[derive(Debug, Clone)]
struct Kept {
    x: NodeId,
    gamma: NodeId,
    beta: NodeId,
    mean: FlexTensor,
    variance: FlexTensor,
    output: Option<FlexTensor>,
    batch_statistics: bool,
    after: After,
}

impl Kept {
    /// Registers gradients of input, γ and β; what is left is the residual's.
    fn backward(
        self,
        [x, gamma, beta]: [Option<NodeId>; 3],
        slope: FlexTensor,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) -> Option<FlexTensor> {
        let values: [FlexTensor; 3] = [self.x, self.gamma, self.beta].map(|state| checkpointer.retrieve_node_output(state));
        let state = NormState {
            x: &values[0],
            gamma: &values[1],
            beta: &values[2],
            mean: &self.mean,
            variance: &self.variance,
            output: self.output.as_ref(),
            batch_statistics: self.batch_statistics,
            after: self.after,
        };
        let gradients = kernels::norm_backward(&state, slope);
        for (node, gradient) in [(x, gradients.x), (gamma, gradients.gamma), (beta, gradients.beta)] {
            if let Some(node) = node {
                grads.register::<Flex>(node, gradient);
            }
        }
        gradients.residual
    }
}

#[derive(Debug)]
struct Norm;

impl Backward<Flex, 3> for Norm {
    type State = Kept;

    fn backward(self, ops: Ops<Kept, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let slope = grads.consume::<Flex>(&ops.node);
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        ops.state.backward(nodes, slope, grads, checkpointer);
    }
}

#[derive(Debug)]
struct NormResidual;

impl Backward<Flex, 4> for NormResidual {
    type State = Kept;

    fn backward(self, ops: Ops<Kept, 4>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let slope = grads.consume::<Flex>(&ops.node);
        let [x, gamma, beta, residual] = ops.parents;
        let [x, gamma, beta] = [x, gamma, beta].map(|node| node.map(|node| node.id));
        // Without an activation the residual's gradient is the output's.
        let whole = (residual.is_some() && ops.state.output.is_none()).then(|| slope.clone());
        let passed = ops.state.backward([x, gamma, beta], slope, grads, checkpointer);
        if let (Some(residual), Some(gradient)) = (residual, passed.or(whole)) {
            register!(grads, residual, ops.node, gradient);
        }
    }
}

#[derive(Debug)]
struct MaxPool;

impl Backward<Flex, 1> for MaxPool {
    /// Which pixel each maximum is, and the input's shape.
    type State = (Arc<[u8]>, [usize; 4]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [x] = ops.parents;
        let slope = grads.consume::<Flex>(&ops.node);
        let (chosen, dims) = ops.state;
        if let Some(x) = x {
            grads.register::<Flex>(x.id, kernels::max_pool_gradient(&slope, &chosen, dims));
        }
    }
}

#[derive(Debug)]
struct Subsampled;

impl Backward<Flex, 1> for Subsampled {
    type State = Subsample;

    fn backward(self, ops: Ops<Subsample, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [x] = ops.parents;
        let slope = grads.consume::<Flex>(&ops.node);
        if let Some(x) = x {
            register!(grads, x, ops.node, kernels::subsample_gradient(&slope, &ops.state));
        }
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn kernel_conv(x: Tracked<C>, weight: Tracked<C>, shape: ConvShape) -> Tracked<C> {
        match Conv.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), shape);
                prep.finish(state, Flex::kernel_conv(x.into_primitive(), weight.into_primitive(), shape))
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::kernel_conv(x.into_primitive(), weight.into_primitive(), shape)),
        }
    }

    fn kernel_conv_bias(x: Tracked<C>, weight: Tracked<C>, bias: Tracked<C>, shape: ConvShape) -> Tracked<C> {
        let forward = |x: Tracked<C>, weight: Tracked<C>, bias: Tracked<C>| {
            Flex::kernel_conv_bias(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), shape)
        };
        match ConvBias.prepare::<C>([x.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), shape);
                prep.finish(state, forward(x, weight, bias))
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, weight, bias)),
        }
    }

    fn kernel_norm_train(x: Tracked<C>, gamma: Tracked<C>, beta: Tracked<C>, after: After) -> (Tracked<C>, Tracked<C>, Tracked<C>) {
        let forward = |x: Tracked<C>, gamma: Tracked<C>, beta: Tracked<C>| {
            Flex::kernel_norm_train(x.into_primitive(), gamma.into_primitive(), beta.into_primitive(), after)
        };
        match Norm.prepare::<C>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&gamma), prep.checkpoint(&beta)];
                let (output, mean, variance) = forward(x, gamma, beta);
                let kept = kept(nodes, &mean, &variance, None, true, after);
                (prep.finish(kept, output), Tracked::<C>::new(mean), Tracked::<C>::new(variance))
            }
            OpsKind::UnTracked(prep) => {
                let (output, mean, variance) = forward(x, gamma, beta);
                (prep.finish(output), Tracked::<C>::new(mean), Tracked::<C>::new(variance))
            }
        }
    }

    fn kernel_norm_train_residual(
        x: Tracked<C>,
        gamma: Tracked<C>,
        beta: Tracked<C>,
        residual: Tracked<C>,
        after: After,
    ) -> (Tracked<C>, Tracked<C>, Tracked<C>) {
        let forward = |x: Tracked<C>, gamma: Tracked<C>, beta: Tracked<C>, residual: Tracked<C>| {
            let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
            Flex::kernel_norm_train_residual(x.into_primitive(), gamma, beta, residual.into_primitive(), after)
        };
        match NormResidual.prepare::<C>([x.node(), gamma.node(), beta.node(), residual.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&gamma), prep.checkpoint(&beta)];
                let (output, mean, variance) = forward(x, gamma, beta, residual);
                let kept = kept(nodes, &mean, &variance, Some(&output), true, after);
                (prep.finish(kept, output), Tracked::<C>::new(mean), Tracked::<C>::new(variance))
            }
            OpsKind::UnTracked(prep) => {
                let (output, mean, variance) = forward(x, gamma, beta, residual);
                (prep.finish(output), Tracked::<C>::new(mean), Tracked::<C>::new(variance))
            }
        }
    }

    fn kernel_norm(x: Tracked<C>, gamma: Tracked<C>, beta: Tracked<C>, mean: Tracked<C>, variance: Tracked<C>, after: After) -> Tracked<C> {
        let (mean, variance) = (mean.into_primitive(), variance.into_primitive());
        let forward = |x: Tracked<C>, gamma: Tracked<C>, beta: Tracked<C>| {
            let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
            Flex::kernel_norm(x.into_primitive(), gamma, beta, mean.clone(), variance.clone(), after)
        };
        match Norm.prepare::<C>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&gamma), prep.checkpoint(&beta)];
                let output = forward(x, gamma, beta);
                prep.finish(kept(nodes, &mean, &variance, None, false, after), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, gamma, beta)),
        }
    }

    fn kernel_norm_residual(
        x: Tracked<C>,
        gamma: Tracked<C>,
        beta: Tracked<C>,
        mean: Tracked<C>,
        variance: Tracked<C>,
        residual: Tracked<C>,
        after: After,
    ) -> Tracked<C> {
        let (mean, variance) = (mean.into_primitive(), variance.into_primitive());
        let forward = |x: Tracked<C>, gamma: Tracked<C>, beta: Tracked<C>, residual: Tracked<C>| {
            let (gamma, beta, residual) = (gamma.into_primitive(), beta.into_primitive(), residual.into_primitive());
            Flex::kernel_norm_residual(x.into_primitive(), gamma, beta, mean.clone(), variance.clone(), residual, after)
        };
        match NormResidual.prepare::<C>([x.node(), gamma.node(), beta.node(), residual.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let nodes = [prep.checkpoint(&x), prep.checkpoint(&gamma), prep.checkpoint(&beta)];
                let output = forward(x, gamma, beta, residual);
                prep.finish(kept(nodes, &mean, &variance, Some(&output), false, after), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, gamma, beta, residual)),
        }
    }

    fn kernel_max_pool(x: Tracked<C>) -> Tracked<C> {
        match MaxPool.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (output, chosen, dims) = kernels::max_pool(&x.into_primitive());
                prep.finish((chosen.into(), dims), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::kernel_max_pool(x.into_primitive())),
        }
    }

    fn kernel_subsample(x: Tracked<C>, shape: Subsample) -> Tracked<C> {
        match Subsampled.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(shape, Flex::kernel_subsample(x.into_primitive(), shape)),
            OpsKind::UnTracked(prep) => prep.finish(Flex::kernel_subsample(x.into_primitive(), shape)),
        }
    }
}

/// `output` is given where a residual was added; it is kept only if the activation's slope depends on it.
fn kept(
    [x, gamma, beta]: [NodeId; 3],
    mean: &FlexTensor,
    variance: &FlexTensor,
    output: Option<&FlexTensor>,
    batch_statistics: bool,
    after: After,
) -> Kept {
    let output = output.filter(|_| after.activation != Activation::Identity).cloned();
    Kept { x, gamma, beta, mean: mean.clone(), variance: variance.clone(), output, batch_statistics, after }
}
