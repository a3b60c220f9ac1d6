//! Any bytes as a table, a class list, a label list or an order of synsets, by the first byte.

use std::collections::BTreeSet;
use std::path::Path;

use timburn_data::dataset::{TableOptions, parse_classes, parse_labels, parse_synset_order, parse_table};

/// `T` table, `C` classes, `L` labels, `I` labels by ids, `S` synsets; the file is what follows. Anything else is a table as a whole.
///
/// # Panics
/// When rows, classes or labels are not what the text can hold.
pub(crate) fn run(data: &[u8]) {
    let path = Path::new("input");
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n' || **byte == b'\r').count() + 1;
    match data {
        [b'C', text @ ..] => classes(path, text),
        [b'L' | b'I', text @ ..] => {
            let ids: Vec<u32> = (0..1000).rev().collect();
            let Ok(list) = parse_labels(path, text, (data[0] == b'I').then_some(&ids)) else { return };
            assert!(list.len() <= lines(text));
            for number in 0..=list.len() {
                assert!(list.of(&format!("val_{number:08}.JPEG")).is_none_or(|label| label < 1000));
            }
            let name = String::from_utf8_lossy(text);
            assert!(name.split([' ', ',', '\n']).all(|name| list.of(name).is_none_or(|label| label < 1000)));
        }
        [b'S', text @ ..] => {
            let Ok(order) = parse_synset_order(path, text) else { return };
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 1000);
            assert!(order.len() == 1000 && order.iter().all(|class| *class < 1000));
        }
        _ => {
            let text = data.strip_prefix(b"T").unwrap_or(data);
            let Ok(rows) = parse_table(path, text, &TableOptions::default()) else { return };
            assert!(!rows.is_empty() && rows.len() <= lines(text));
            let mut last = 0;
            for row in &rows {
                assert!(!row.path.is_empty() && !row.label.is_empty());
                assert!(row.line > last && row.line <= lines(text) as u64, "line {} after {last}", row.line);
                last = row.line;
            }
            let length = rows.iter().map(|row| row.path.len() + row.label.len() + row.split.as_ref().map_or(0, String::len));
            assert!(length.sum::<usize>() <= text.len());
        }
    }
}

/// Every class is there once, and what is written of the list reads the same.
fn classes(path: &Path, text: &[u8]) {
    let Ok(classes) = parse_classes(path, text) else { return };
    assert!(classes.ids.is_empty() || classes.ids.len() == classes.names.len());
    assert!(classes.names.iter().chain(&classes.ids).map(String::len).sum::<usize>() <= text.len());
    let key = |index: usize| classes.ids.get(index).filter(|id| !id.is_empty()).unwrap_or(&classes.names[index]);
    assert_eq!((0..classes.len()).map(key).collect::<BTreeSet<_>>().len(), classes.len());
    let written = serde_json::to_vec(&classes).unwrap_or_default();
    let read = parse_classes(path, &written);
    assert!(read.as_ref().is_ok_and(|read| *read == classes), "{read:?}");
}
