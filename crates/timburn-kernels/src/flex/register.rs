//! Gradients of an activation that several layers read, a block's input above all, summed by all threads.
//!
//! Burn's own sum runs on one thread. It happens only when a gradient arrives where one is already: here that one is taken out first, and
//! the sum put back.

use std::cell::RefCell;
use std::collections::VecDeque;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

use super::kernels::{Values, owned};
use crate::cpu::elementwise;

/// Activations that are remembered: more than lie between the first and the last reader of one in a deep network's block.
const REMEMBERED: usize = 64;

/// Which activations have a gradient now. Burn only tells by a panic.
struct Recent {
    /// Has a gradient of its own in the container that `nodes` is about, and in no other one.
    mark: FloatTensor<Autodiff<Flex>>,
    nodes: VecDeque<NodeId>,
}

thread_local! {
    static RECENT: RefCell<Option<Recent>> = const { RefCell::new(None) };
}

/// Notes that `node` has a gradient in `grads`; whether that is known already.
fn note(node: NodeId, grads: &mut Gradients) -> bool {
    RECENT.with_borrow_mut(|recent| {
        let recent = match recent {
            Some(recent) if grads.get::<Flex>(&recent.mark).is_some() => recent,
            _ => {
                let tiny = || FlexTensor::zeros(Shape::new([1]), DType::F32);
                let mark = FloatTensor::<Autodiff<Flex>>::new(tiny());
                grads.register::<Flex>(mark.id(), tiny());
                recent.insert(Recent { mark, nodes: VecDeque::with_capacity(REMEMBERED) })
            }
        };
        if recent.nodes.contains(&node) {
            return true;
        }
        if recent.nodes.len() == REMEMBERED {
            recent.nodes.pop_front();
        }
        recent.nodes.push_back(node);
        false
    })
}

/// Adds `gradient` to that of the activation `node`. `take` takes the one that is there out of the container.
pub(super) fn add(node: NodeId, grads: &mut Gradients, gradient: FlexTensor, take: impl FnOnce(&mut Gradients) -> FlexTensor) {
    let gradient = if note(node, grads) { sum(gradient, take(grads)) } else { gradient };
    grads.register::<Flex>(node, gradient);
}

/// Registers the gradient of a parent, whose type Burn does not name.
macro_rules! register {
    ($node:expr, $grads:expr, $gradient:expr) => {{
        let (node, gradient) = ($node, $gradient);
        // A leaf's gradient stays where it is however often it is asked for.
        if node.parents.is_empty() {
            $grads.register::<Flex>(node.id, gradient);
        } else {
            $crate::flex::register::add(node.id, $grads, gradient, |grads| grads.consume::<Flex>(&node));
        }
    }};
}
pub(super) use register;

/// The sum, in the memory of one of both where nobody else holds it.
fn sum(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    if [&a, &b].iter().any(|tensor| tensor.dtype() != DType::F32) || a.layout().shape() != b.layout().shape() {
        return Flex::float_add(a, b);
    }
    let (mut into, other) = if a.is_unique() { (owned(a), b) } else { (owned(b), a) };
    elementwise::add(into.storage_mut(), Values::new(&other).slice());
    into
}
