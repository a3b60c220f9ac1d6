//! The label lists that come with ImageNet's flat validation folder.

use std::collections::HashMap;
use std::path::Path;

use timburn_core::{Classes, Result};

use super::class_map::{Lookup, is_wnid};
use super::malformed;

/// Classes of ImageNet's validation pictures, as indices into [`Classes::imagenet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelList(Labels);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Labels {
    /// Line `n` is the class of the picture whose name ends in the number `n`.
    ByNumber(Vec<u32>),
    /// By file name without folder and extension.
    ByName(HashMap<String, u32>),
}

impl LabelList {
    /// Class of the picture with this file name (`ILSVRC2012_val_00000293.JPEG`).
    pub fn of(&self, file_name: &str) -> Option<usize> {
        let stem = stem(file_name);
        let label = match &self.0 {
            Labels::ByNumber(labels) => labels.get(stem.rsplit('_').next()?.parse::<usize>().ok()?.checked_sub(1)?),
            Labels::ByName(labels) => labels.get(stem),
        };
        label.map(|&label| label as usize)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        match &self.0 {
            Labels::ByNumber(labels) => labels.len(),
            Labels::ByName(labels) => labels.len(),
        }
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn stem(file_name: &str) -> &str {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or(file_name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Reads a label list, whose form its first line tells:
///
/// | first line | known as |
/// |---|---|
/// | `490` | `ILSVRC2012_validation_ground_truth.txt`: ILSVRC2012 ids 1 to 1000, whose meaning `ids` gives (see [`parse_synset_order`]) |
/// | `n01751748` | `imagenet_2012_validation_synset_labels.txt` |
/// | `ILSVRC2012_val_00000001.JPEG 65` | Caffe's `val.txt`: indices from 0 in the order of the synsets; or a synset in the second column |
/// | `ImageId,PredictionString` | Kaggle's `LOC_val_solution.csv`: the synset is the prediction's first word |
///
/// `path` is for errors.
///
/// # Errors
/// [`DataError::Malformed`](timburn_core::error::DataError::Malformed) with the line.
#[doc(hidden)]
pub fn parse_labels(path: &Path, bytes: &[u8], ids: Option<&[u32]>) -> Result<LabelList> {
    let lines = lines(path, bytes)?;
    let classes = Classes::imagenet();
    let lookup = Lookup::new(&classes);
    let fault = |line: usize, expected: &str, found: &str| malformed(path, &format!(", line {line}"), expected, shortened(found));
    let synset = |line: usize, word: &str| {
        let index = lookup.find(word).filter(|_| is_wnid(word));
        index.map(|index| index as u32).ok_or_else(|| fault(line, "one of ImageNet's 1000 synsets", word))
    };
    let number = |line: usize, word: &str, range: std::ops::RangeInclusive<usize>| {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        word.parse::<usize>().ok().filter(|number| range.contains(number)).ok_or_else(|| fault(line, &expected, word))
    };
    let Some(&(_, first)) = lines.first() else {
        return Err(malformed(path, "", "a label list", "an empty file".into()));
    };
    let words = first.split_whitespace().count();
    let by_number = |label: &dyn Fn(usize, &str) -> Result<u32>| {
        Ok(LabelList(Labels::ByNumber(lines.iter().map(|&(line, text)| label(line, text.trim())).collect::<Result<_>>()?)))
    };
    if words == 1 && is_wnid(first.trim()) {
        return by_number(&synset);
    }
    if words == 1 && first.trim().bytes().all(|byte| byte.is_ascii_digit()) {
        let Some(ids) = ids else {
            let expected = "`map_clsloc.txt` of the ILSVRC devkit beside it, which says what the ids mean (meta.mat is not read)";
            return Err(malformed(path, "", expected, "ids alone".into()));
        };
        return by_number(&|line, word| {
            let id = number(line, word, 1..=ids.len())?;
            ids.get(id - 1).copied().ok_or_else(|| fault(line, "an ILSVRC2012 id", word))
        });
    }
    let kaggle = first.starts_with("ImageId,");
    let mut labels = HashMap::with_capacity(lines.len());
    for &(line, text) in lines.iter().skip(usize::from(kaggle)) {
        let (name, label) = if kaggle {
            let (name, prediction) = text.split_once(',').ok_or_else(|| fault(line, "`ImageId,PredictionString`", text))?;
            (name.trim(), synset(line, prediction.trim_matches('"').split_whitespace().next().unwrap_or_default())?)
        } else {
            let (name, label) = text.trim().rsplit_once([' ', '\t']).ok_or_else(|| fault(line, "`file label`", text))?;
            (name.trim(), if is_wnid(label) { synset(line, label)? } else { number(line, label, 0..=classes.len() - 1)? as u32 })
        };
        if labels.insert(stem(name).to_owned(), label).is_some_and(|before| before != label) {
            return Err(fault(line, "one label for each picture", name));
        }
    }
    Ok(LabelList(Labels::ByName(labels)))
}

/// What the ILSVRC2012 ids 1 to 1000 mean, as indices into [`Classes::imagenet`]: from `map_clsloc.txt` (`n02119789 1 kit_fox`), or a list of
/// all synsets in the order of the ids.
///
/// A list in the order of the synsets themselves (`LOC_synset_mapping.txt`, Caffe's `synsets.txt`) is refused: the ids are ordered
/// otherwise (1 is `n02119789`), and nearly every label would be wrong.
///
/// # Errors
/// [`DataError::Malformed`](timburn_core::error::DataError::Malformed) with the line.
#[doc(hidden)]
pub fn parse_synset_order(path: &Path, bytes: &[u8]) -> Result<Vec<u32>> {
    let classes = Classes::imagenet();
    let lookup = Lookup::new(&classes);
    let lines = lines(path, bytes)?;
    let mut order = vec![u32::MAX; lines.len()];
    let mut numbered = 0;
    for (position, &(line, text)) in lines.iter().enumerate() {
        let fault = |expected: &str| malformed(path, &format!(", line {line}"), expected, shortened(text));
        let mut words = text.split_whitespace();
        let class = words.next().filter(|word| is_wnid(word)).and_then(|word| lookup.find(word));
        let class = class.ok_or_else(|| fault("one of ImageNet's 1000 synsets first"))?;
        let id = words.next().and_then(|word| word.parse::<usize>().ok());
        numbered += usize::from(id.is_some());
        let slot = order.get_mut(id.map_or(position, |id| id.wrapping_sub(1)));
        let slot = slot.ok_or_else(|| fault("an id from 1 to the number of lines"))?;
        if std::mem::replace(slot, class as u32) != u32::MAX {
            return Err(fault("each id once"));
        }
    }
    let fault = |expected: &str, found: String| Err(malformed(path, "", expected, found));
    if numbered != 0 && numbered != lines.len() {
        return fault("an id on every line or on none", format!("{numbered} of {}", lines.len()));
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != classes.len() || order.len() != classes.len() {
        return fault("all 1000 synsets once", format!("{} lines, {} synsets", order.len(), sorted.len()));
    }
    if numbered == 0 && order == sorted {
        return fault("the synsets in the order of the ILSVRC2012 ids, as `map_clsloc.txt` has them", "alphabetical order".into());
    }
    Ok(order)
}

/// Lines with their numbers, the empty ones left out.
fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(usize, &'a str)>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(path, "", "UTF-8 text", error.to_string()))?;
    Ok(text.lines().enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, line)| !line.trim().is_empty()).collect())
}

fn shortened(text: &str) -> String {
    format!("`{}`", text.chars().take(60).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LabelList> {
        parse_labels(Path::new("list"), text.as_bytes(), None)
    }

    /// The devkit's order shifted by one, so that an id is not its own index.
    fn order() -> Vec<u32> {
        let ids = Classes::imagenet().ids;
        let lines: String = (0..1000).map(|id| format!("{} {} name\n", ids[(id + 7) % 1000], id + 1)).collect();
        parse_synset_order(Path::new("map_clsloc.txt"), lines.as_bytes()).unwrap()
    }

    #[test]
    fn every_form_says_the_same() {
        let picture = "ILSVRC2012_val_00000002.JPEG";
        let caffe = parse("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 281\n").unwrap();
        let synsets = parse("n01751748\r\nn02123045\r\n").unwrap();
        let kaggle = parse("ImageId,PredictionString\nILSVRC2012_val_00000002,n02123045 85 1 499 272 n02123045 1 2 3 4 \n").unwrap();
        let ids = format!("490\n{}\n", 281 - 7 + 1);
        let ground_truth = parse_labels(Path::new("truth"), ids.as_bytes(), Some(&order())).unwrap();
        for list in [&caffe, &synsets, &kaggle, &ground_truth] {
            assert_eq!(list.of(picture), Some(281), "{list:?}");
            assert_eq!(list.of("ILSVRC2012_val_00000003.JPEG"), None);
            assert_eq!(list.of("ILSVRC2012_val_00000000.JPEG"), None);
        }
        assert_eq!((caffe.len(), synsets.of("val_1.png")), (2, Some(65)));
    }

    #[test]
    fn faults_name_the_line() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error("a.JPEG 65\nb.JPEG 1000\n").contains("list, line 2: expected a number from 0 to 999, found `1000`"));
        assert!(error("n01751748\n\nn00000000\n").contains("line 3"));
        assert!(error("a.JPEG 65\na.JPEG 66\n").contains("line 2"));
        assert!(error("490\n").contains("map_clsloc.txt"));
        assert!(error("").contains("empty"));
        assert!(parse_labels(Path::new("list"), b"\xff\xfe", None).is_err());
    }

    #[test]
    fn a_list_in_alphabetical_order_is_no_order_of_ids() {
        let classes = Classes::imagenet();
        let lines: String = classes.ids.iter().zip(&classes.names).map(|(id, name)| format!("{id} {name}\n")).collect();
        let error = parse_synset_order(Path::new("LOC_synset_mapping.txt"), lines.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("alphabetical order"), "{error}");
        assert!(parse_synset_order(Path::new("x"), b"n02119789 1 kit_fox\n").is_err());
        assert!(parse_synset_order(Path::new("x"), b"n02119789 0 kit_fox\n").is_err());
    }
}
