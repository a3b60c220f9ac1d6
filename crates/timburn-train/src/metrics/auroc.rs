/// Area under the ROC curve: the chance that a positive sample scores above a negative one, equal scores counted half. Exact: it keeps all
/// scores, nine bytes each.
#[derive(Debug, Clone, Default)]
pub struct Auroc {
    scores: Vec<(f64, bool)>,
}

impl Auroc {
    /// Adds one sample; only the order of the scores matters.
    pub fn add(&mut self, score: f64, positive: bool) {
        self.scores.push((score, positive));
    }

    /// The area, in `[0, 1]`; `None` unless both kinds of samples are there.
    pub fn value(&self) -> Option<f64> {
        let mut scores = self.scores.clone();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Mann–Whitney: over groups of equal scores, negatives below count 1, negatives beside count ½.
        let (mut wins, mut below) = (0.0, 0u64);
        for group in scores.chunk_by(|a, b| a.0 == b.0) {
            let positives = group.iter().filter(|(_, positive)| *positive).count() as u64;
            let negatives = group.len() as u64 - positives;
            wins += positives as f64 * (below as f64 + negatives as f64 / 2.0);
            below += negatives;
        }
        let positives = scores.len() as u64 - below;
        (positives > 0 && below > 0).then(|| wins / (positives as f64 * below as f64))
    }
}
