//! From values to places, and the values worth a label.

use timburn_data::picture::font;

/// An axis from `low` to `high`.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Values with their labels; a tick without a label is a line of the grid only.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that holds all of `values`, with about `count` ticks. On a logarithmic one only positive values have a place.
    pub(super) fn new(values: impl Iterator<Item = f64>, log: bool, count: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && (!log || *value > 0.0)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = if log { (0.1, 1.0) } else { (0.0, 1.0) };
        }
        if log { Self::logarithmic(low, high) } else { Self::linear(low, high, count, true) }
    }

    /// An axis from exactly `low` to `high`.
    pub(super) fn fixed(low: f64, high: f64, count: f64) -> Self {
        Self::linear(low, high, count, false)
    }

    fn linear(mut low: f64, mut high: f64, count: f64, widen: bool) -> Self {
        if high - low < 1e-12 * high.abs().max(low.abs()).max(1e-300) {
            let half = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - half, high + half);
        }
        let step = nice((high - low) / count);
        if widen {
            // Room above and below, without a negative piece of axis under values that cannot be negative.
            let room = 0.04 * (high - low);
            low = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
            high += room;
            if low < 0.25 * high && low >= 0.0 {
                low = 0.0;
            }
        }
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last.min(first + 100)).map(|index| index as f64 * step).map(|value| (value, label(value, step))).collect();
        Self { low, high, log: false, ticks }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = if high / low < 1.5 { (low / 1.5, high * 1.5) } else { (low / 1.1, high * 1.1) };
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let decades = last - first;
        // Beyond ten decades not each has room for its label; below two, the numbers between have.
        let every = (decades + 9) / 10;
        let mut ticks = Vec::new();
        for power in first..=last {
            for digit in 1..10 {
                let value = f64::from(digit) * 10f64.powi(power);
                if value < low || value > high {
                    continue;
                }
                let labelled = if decades <= 2 { matches!(digit, 1 | 2 | 5) } else { digit == 1 && (power - first) % every.max(1) == 0 };
                if labelled || decades <= 6 {
                    ticks.push((value, if labelled { scientific(digit, power) } else { String::new() }));
                }
            }
        }
        Self { low, high, log: true, ticks }
    }

    /// Place of a value: 0 at the low end, 1 at the high end, beyond for values outside. `None` where it has none.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = if self.log {
            (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.is_finite().then_some(place)
    }

    /// Width of the widest label.
    pub(super) fn label_width(&self, size: f64) -> f64 {
        self.ticks.iter().map(|(_, label)| font::width(label, size)).fold(0.0, f64::max)
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `step`.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|nice| *nice >= step * 0.999).unwrap_or(10.0 * power)
}

/// The value with as many digits as the step between two ticks needs.
fn label(value: f64, step: f64) -> String {
    if value.abs() < step / 2.0 {
        return "0".to_owned();
    }
    let power = step.log10().floor() as i32;
    if (1e4..1e15).contains(&step.max(value.abs())) && step >= 100.0 {
        let (unit, suffix) = if step >= 1e5 { (1e6, "M") } else { (1e3, "k") };
        let digits = (f64::from(-power) + if suffix == "M" { 6.0 } else { 3.0 }).max(0.0) as usize;
        return format!("{:.digits$}{suffix}", value / unit);
    }
    if !(-4..=14).contains(&power) {
        return format!("{:e}", (value / 10f64.powi(power)).round() * 10f64.powi(power)).chars().take(12).collect();
    }
    let digits = usize::try_from(-power).unwrap_or(0);
    let text = format!("{value:.digits$}");
    text.replace('-', "−")
}

fn scientific(digit: i32, power: i32) -> String {
    match power {
        0..=3 => format!("{}", digit * 10i32.pow(power as u32)),
        -2..=-1 => format!("{:.*}", power.unsigned_abs() as usize, f64::from(digit) * 10f64.powi(power)),
        _ => format!("{digit}e{power}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        Axis::new([low, high].into_iter(), false, 6.0).ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn labels_are_round_and_distinct() {
        assert_eq!(labels(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(0.0, 78_000.0), ["0", "20k", "40k", "60k", "80k"]);
        assert_eq!(labels(87.2, 91.4), ["88", "89", "90", "91"]);
        for (low, high) in
            [(0.0, 1e-4), (1e-9, 3e-9), (-3.0, 5.0), (0.0, 2.5e6), (5.0, 5.0), (0.0, 0.0), (f64::NAN, f64::NAN), (-1e300, 1e300)]
        {
            let labels = labels(low, high);
            let distinct: std::collections::BTreeSet<&String> = labels.iter().collect();
            assert!(labels.len() >= 2 && labels.len() < 15 && distinct.len() == labels.len(), "{low}..{high}: {labels:?}");
        }
    }

    #[test]
    fn logarithmic_axes_label_decades() {
        let axis = Axis::new([1e-7, 10.0, -1.0, 0.0].into_iter(), true, 6.0);
        let labels: Vec<String> = axis.ticks.iter().map(|(_, label)| label.clone()).filter(|label| !label.is_empty()).collect();
        assert_eq!(labels, ["1e-7", "1e-6", "1e-5", "1e-4", "1e-3", "0.01", "0.1", "1", "10"]);
        assert_eq!(axis.place(0.0), None);
        assert!((axis.place(1e-3).unwrap() - 0.5).abs() < 1e-9);
    }
}
