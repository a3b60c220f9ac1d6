use serde::{Deserialize, Serialize};

/// Counts of (class, predicted class).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `counts[class * classes + predicted]`.
    counts: Vec<u64>,
}

/// Precision, recall and F1 of one class; 0 where nothing was predicted or nothing is there, as scikit-learn has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Share of right ones among those predicted as this class.
    pub precision: f64,
    /// Share of right ones among those of this class.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Samples of this class.
    pub support: u64,
}

impl Confusion {
    /// All zero.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Counts one sample; classes that do not exist are not counted.
    pub fn add(&mut self, class: usize, predicted: usize) {
        if class.max(predicted) < self.classes
            && let Some(count) = self.counts.get_mut(class * self.classes + predicted)
        {
            *count += 1;
        }
    }

    /// One row per class, one column per predicted class.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        self.counts.chunks(self.classes.max(1)).map(<[u64]>::to_vec).collect()
    }

    /// (right, predicted, there) of each class.
    fn totals(&self) -> Vec<(u64, u64, u64)> {
        let mut totals = vec![(0, 0, 0); self.classes];
        for (at, &count) in self.counts.iter().enumerate() {
            let (class, predicted) = (at / self.classes, at % self.classes);
            totals[class].2 += count;
            totals[predicted].1 += count;
            if class == predicted {
                totals[class].0 += count;
            }
        }
        totals
    }

    /// One report per class.
    pub fn per_class(&self) -> Vec<ClassReport> {
        let share = |part: u64, whole: u64| if whole > 0 { part as f64 / whole as f64 } else { 0.0 };
        let reports = self.totals().into_iter().map(|(right, predicted, there)| ClassReport {
            precision: share(right, predicted),
            recall: share(right, there),
            f1: share(2 * right, predicted + there),
            support: there,
        });
        reports.collect()
    }

    /// Mean recall over the classes that have samples.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        mean(self.per_class().into_iter().filter(|report| report.support > 0).map(|report| report.recall))
    }

    /// Mean F1 over the classes that have samples or were predicted.
    pub fn macro_f1(&self) -> Option<f64> {
        let seen = self.totals().into_iter().filter(|(_, predicted, there)| predicted + there > 0);
        mean(seen.map(|(right, predicted, there)| 2.0 * right as f64 / (predicted + there) as f64))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
