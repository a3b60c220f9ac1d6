//! Limited-memory BFGS for smooth functions of many variables.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that are remembered (SciPy's default).
const HISTORY: usize = 10;
/// Sufficient decrease, Armijo's constant.
const DECREASE: f64 = 1e-4;
/// Halvings of a step before the search gives up.
const HALVINGS: u32 = 30;

/// Minimises `evaluate`, which gives value and gradient, from `start`; ends when the largest entry of the gradient is at most `tolerance`, when
/// no step improves, or after `iterations`. Liu and Nocedal 1989; backtracking line search, pairs that do not curve upwards are left out.
///
/// # Errors
/// Those of `evaluate`.
pub(super) fn minimize<E>(
    start: Vec<f64>,
    iterations: usize,
    tolerance: f64,
    mut evaluate: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>), E>,
) -> Result<Vec<f64>, E> {
    let mut x = start;
    let (mut value, mut gradient) = evaluate(&x)?;
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    for _ in 0..iterations {
        if gradient.iter().fold(0.0, |largest: f64, entry| largest.max(entry.abs())) <= tolerance {
            break;
        }
        let direction = direction(&gradient, &pairs);
        let slope = dot(&direction, &gradient);
        // Before any curvature is known, a step of unit length.
        let mut step = if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let mut found = None;
        for _ in 0..HALVINGS {
            let candidate: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
            let (new_value, new_gradient) = evaluate(&candidate)?;
            if new_value <= value + DECREASE * step * slope {
                found = Some((candidate, new_value, new_gradient));
                break;
            }
            step *= 0.5;
        }
        let Some((new_x, new_value, new_gradient)) = found else { break };
        let moved: Vec<f64> = new_x.iter().zip(&x).map(|(a, b)| a - b).collect();
        let turned: Vec<f64> = new_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        if dot(&moved, &turned) > 1e-12 * dot(&turned, &turned) {
            if pairs.len() == HISTORY {
                pairs.pop_front();
            }
            pairs.push_back((moved, turned));
        }
        (x, value, gradient) = (new_x, new_value, new_gradient);
    }
    Ok(x)
}

/// The two-loop recursion: the inverse Hessian's estimate times the negative gradient.
fn direction(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|entry| -entry).collect();
    let mut weights = Vec::with_capacity(pairs.len());
    for (moved, turned) in pairs.iter().rev() {
        let weight = dot(moved, &q) / dot(moved, turned);
        add(&mut q, -weight, turned);
        weights.push(weight);
    }
    if let Some((moved, turned)) = pairs.back() {
        let scale = dot(moved, turned) / dot(turned, turned);
        q.iter_mut().for_each(|entry| *entry *= scale);
    }
    for ((moved, turned), weight) in pairs.iter().zip(weights.into_iter().rev()) {
        let back = dot(turned, &q) / dot(moved, turned);
        add(&mut q, weight - back, moved);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += factor * what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosenbrocks_valley_is_followed_to_its_end() {
        let rosenbrock = |x: &[f64]| -> Result<(f64, Vec<f64>), ()> {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            Ok((a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b]))
        };
        let found = minimize(vec![-1.2, 1.0], 200, 1e-9, rosenbrock).unwrap();
        assert!((found[0] - 1.0).abs() < 1e-7 && (found[1] - 1.0).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn an_error_ends_the_search() {
        assert_eq!(minimize(vec![0.0], 10, 0.0, |_| Err::<(f64, Vec<f64>), _>("lost")), Err("lost"));
    }
}
