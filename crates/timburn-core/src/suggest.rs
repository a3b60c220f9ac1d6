//! "Did you mean": the nearest known names to one that is unknown.

/// Up to three of `known`, nearest to `name` first; empty when nothing is near enough to help.
///
/// Nearness is Jaro-Winkler similarity, which favours a common beginning: right for `resnet50` against `resnet5` and for
/// `layer1.0.conv1.weight` against `layer1.0.conv2.weight`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.truncate(3);
    scored.into_iter().map(|(_, candidate)| candidate.to_owned()).collect()
}

/// The suggestions as the end of a sentence: `; did you mean "a" or "b"?`, or nothing.
pub fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", quoted.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_comes_first_and_strangers_are_left_out() {
        let known = ["resnet50", "resnet18", "mobilenet_v2"];
        assert_eq!(nearest("resnet5", known)[0], "resnet50");
        assert_eq!(nearest("ResNet-50", known)[0], "resnet50");
        assert!(nearest("zzz", known).is_empty());
    }

    #[test]
    fn sentence() {
        assert_eq!(did_you_mean(&[]), "");
        assert_eq!(did_you_mean(&["a".into(), "b".into()]), "; did you mean `a` or `b`?");
    }
}
