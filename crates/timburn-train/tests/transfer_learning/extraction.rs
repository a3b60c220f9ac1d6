//! Features: what they are, and what a cache may and may not do.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use timburn_core::error::{DataError, TrainError};
use timburn_core::{Error, Result};
use timburn_data::loader::BadFile;
use timburn_data::{Content, Dataset, to_tensor};
use timburn_infer::Compiled;
use timburn_models::{ImageModel, ModelOptions, WeightTensor, load_state_dict, state_dict};
use timburn_train::transfer::{Extraction, Features, body_digest};

use crate::common::host;
use crate::{Shades, all, device, extraction, preprocessing, pretrained};

/// Features and how many batches went through the body.
///
/// The body is quick, and says the same of no two pictures.
fn run(extraction: &Extraction, cache: Option<(&Path, &str)>) -> Result<(Features, Vec<BadFile>, usize)> {
    let calls = Cell::new(0);
    let body = |images: Tensor<4>| {
        calls.set(calls.get() + 1);
        let count = images.dims()[0];
        Ok(images.slice([0..count, 0..3, 0..2, 0..4]).flatten(1, 3))
    };
    let mut done = 0;
    let (features, bad) = extraction.run(&body, &device(), cache, &mut |count| done += count)?;
    assert_eq!(done, extraction.dataset.len() * extraction.views.max(1), "progress counts every picture and view");
    Ok((features, bad, calls.get()))
}

#[test]
fn rows_are_the_body_s_own_in_the_data_s_order() {
    let model = pretrained(&ModelOptions::classes(3));
    let set = Shades::new(&[4, 3, 3]);
    let forward = |images: Tensor<4>| model.pool(model.forward_features(images));
    let extraction = extraction(Arc::new(set.clone()), 1);
    let found = extraction.run(&|images| Ok(forward(images)), &device(), None, &mut |_| {}).unwrap().0;
    assert_eq!((found.len(), found.width(), found.views()), (10, 64, 1));
    assert_eq!(found.labels(), set.labels);
    assert_eq!(found.samples(), (0..10).collect::<Vec<_>>());

    let pictures: Vec<_> = (0..10)
        .map(|index| match set.read(index).unwrap() {
            Content::Pixels(picture) => picture,
            Content::Encoded(_) => panic!("pixels"),
        })
        .collect();
    let expected: Vec<u32> = pictures
        .chunks(4)
        .flat_map(|pictures| host(forward(to_tensor(pictures, &preprocessing(), &device()).unwrap())))
        .map(f32::to_bits)
        .collect();
    assert_eq!(all(&found, 0), expected);
    assert_eq!(host(found.tensor(&device()).unwrap()).into_iter().map(f32::to_bits).collect::<Vec<_>>(), expected);
    let some: Vec<u32> = found.rows(0, [7, 2]).unwrap().into_iter().map(f32::to_bits).collect();
    assert_eq!(some, [&expected[7 * 64..8 * 64], &expected[2 * 64..3 * 64]].concat());

    let compiled = Compiled::new(model.clone(), &device()).unwrap();
    let body = |images| Ok(compiled.pool(compiled.forward_features(images)));
    let graph = extraction.run(&body, &device(), None, &mut |_| {}).unwrap().0;
    for (a, b) in found.rows(0, 0..10).unwrap().into_iter().zip(graph.rows(0, 0..10).unwrap()) {
        assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{a} {b}");
    }
    for (view, position) in [(0, 10), (1, 0)] {
        assert!(matches!(found.rows(view, [position]), Err(Error::Argument { name: "row", .. })));
    }
}

#[test]
fn bad_files_are_left_out_and_told_also_from_the_cache() {
    let whole = Shades::new(&[5, 5]);
    let set = Arc::new(Shades { broken: vec![2, 5, 6], ..whole.clone() });
    let good: Vec<usize> = (0..10).filter(|index| ![2, 5, 6].contains(index)).collect();
    let folder = tempfile::tempdir().unwrap();
    let extraction_of = |share, views| Extraction { skip_bad: share, ..extraction(set.clone(), views) };
    let expected = run(&extraction(Arc::new(whole), 2), None).unwrap().0;
    let cache = Some((folder.path(), "key"));
    for (case, calls) in [(None, 6), (cache, 6), (cache, 0)] {
        let (found, bad, called) = run(&extraction_of(0.5, 2), case).unwrap();
        assert_eq!(called, calls);
        assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [2, 5, 6]);
        assert!(bad.iter().all(|bad| bad.name == format!("shade:{}", bad.index) && !bad.reason.is_empty()), "{bad:?}");
        assert_eq!(found.samples(), good);
        assert_eq!(found.labels(), good.iter().map(|&index| set.label(index)).collect::<Vec<_>>());
        for view in 0..2 {
            assert_eq!(found.rows(view, 0..good.len()).unwrap(), expected.rows(view, good.iter().copied()).unwrap(), "view {view}");
        }
    }
    assert!(run(&extraction_of(0.0, 1), None).is_err(), "no share of bad files is allowed");
    assert!(matches!(run(&extraction_of(0.1, 1), None), Err(Error::Data(DataError::TooManyBadFiles { .. }))));
    let none = Arc::new(Shades { broken: (0..10).collect(), ..Shades::new(&[5, 5]) });
    let hopeless = Extraction { skip_bad: 1.0, ..extraction(none, 1) };
    assert!(matches!(run(&hopeless, cache.map(|(folder, _)| (folder, "other"))), Err(Error::Data(DataError::TooManyBadFiles { .. }))));
    assert_eq!(files(folder.path()), ["key.f32", "key.json"]);
}

#[test]
fn views_differ_and_are_drawn_by_the_seed_alone() {
    let three = extraction(Shades::set(&[5, 4]), 3);
    let found = run(&three, None).unwrap().0;
    assert_eq!(
        all(&found, 0),
        all(&run(&Extraction { views: 1, ..three.clone() }, None).unwrap().0, 0),
        "the first is the picture as scored"
    );
    assert!(all(&found, 0) != all(&found, 1) && all(&found, 1) != all(&found, 2));
    for other in [Extraction { workers: 3, ..three.clone() }, Extraction { batch_size: 9, ..three.clone() }] {
        let other = run(&other, None).unwrap().0;
        (0..3).for_each(|view| assert_eq!(all(&other, view), all(&found, view), "view {view}"));
    }
    let seeded = run(&Extraction { seed: 6, ..three }, None).unwrap().0;
    assert_eq!(all(&seeded, 0), all(&found, 0));
    assert_ne!(all(&seeded, 1), all(&found, 1));
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn damaged_caches_are_never_used_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some((folder.path(), "key"));
    let two = extraction(Shades::set(&[5, 5]), 2);
    let memory = run(&two, None).unwrap().0;
    assert_eq!(run(&two, cache).unwrap().2, 6);
    assert_eq!(files(folder.path()), ["key.f32", "key.json"]);
    let (rows, index) = (folder.path().join("key.f32"), folder.path().join("key.json"));
    let check = |calls: usize, what: &str| {
        let (found, _, called) = run(&two, cache).unwrap();
        assert_eq!(called, calls, "{what}");
        assert_eq!((found.labels(), found.samples()), (memory.labels(), memory.samples()), "{what}");
        (0..2).for_each(|view| assert_eq!(all(&found, view), all(&memory, view), "{what}, view {view}"));
    };
    check(0, "whole");
    let (whole, text) = (fs::read(&rows).unwrap(), fs::read_to_string(&index).unwrap());
    assert_eq!(whole.len(), 10 * 2 * 24 * 4);
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    // The labels take turns: 0, 1, 0, 1, …
    let labels = text.replacen("\"labels\":[0,1,", "\"labels\":[1,1,", 1);
    assert_ne!(labels, text);
    let damages: [(&str, &Path, Vec<u8>); 9] = [
        ("truncated rows", &rows, whole[..whole.len() - 4].to_vec()),
        ("longer rows", &rows, [whole.as_slice(), &[0; 4]].concat()),
        ("no rows", &rows, Vec::new()),
        ("a bit of the first row", &rows, flipped(0)),
        ("a bit of the last row", &rows, flipped(whole.len() - 1)),
        ("another label", &index, labels.into_bytes()),
        ("half an index", &index, text.as_bytes()[..text.len() / 2].to_vec()),
        (
            "an index with another shape",
            &index,
            text.replacen("\"width\":24", "\"width\":48", 1).replacen("\"views\":2", "\"views\":1", 1).into(),
        ),
        ("an absurd index", &index, text.replacen("\"width\":24", &format!("\"width\":{}", usize::MAX), 1).into()),
    ];
    for (what, path, bytes) in damages {
        fs::write(path, bytes).unwrap();
        check(6, what);
        check(0, what);
    }
    for (what, path) in [("a missing index", &index), ("missing rows", &rows)] {
        fs::remove_file(path).unwrap();
        check(6, what);
        check(0, what);
    }
    // What belongs to another key, under this one's name.
    for end in ["f32", "json"] {
        fs::rename(folder.path().join(format!("key.{end}")), folder.path().join(format!("other.{end}"))).unwrap();
    }
    assert_eq!(run(&two, Some((folder.path(), "other"))).unwrap().2, 6);
}

#[test]
fn an_interrupted_extraction_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let calls = Cell::new(0);
    let body = |images: Tensor<4>| -> Result<Tensor<2>> {
        calls.set(calls.get() + 1);
        if calls.get() == 3 { Err(TrainError::Interrupted.into()) } else { Ok(images.flatten(1, 3)) }
    };
    let ten = extraction(Shades::set(&[5, 5]), 1);
    let stopped = ten.run(&body, &device(), Some((folder.path(), "key")), &mut |_| {});
    assert!(matches!(stopped, Err(Error::Train(TrainError::Interrupted))));
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
}

#[test]
fn the_key_names_all_that_decides_the_rows() {
    let model = pretrained(&ModelOptions::classes(3));
    let digest = body_digest(&model).unwrap();
    let one = extraction(Shades::set(&[3, 3]), 1);
    let two = Extraction { views: 2, ..one.clone() };
    let key = one.key(&digest);
    assert_eq!(one.key(&digest), key);

    // The head is none of it, every other tensor is.
    assert_eq!(body_digest(&model.clone().reset_classifier(9, 1, &device())).unwrap(), digest);
    for changed in ["conv1.weight", "bn1.running_var", "layer3.2.bn2.bias"] {
        let mut weights = state_dict(&model);
        let tensor = weights.tensors.get_mut(changed).expect(changed);
        let mut values = crate::common::tensor(changed, &tensor.shape, 0.0);
        values[0] += 1e-3;
        *tensor = WeightTensor::from_f32(tensor.shape.clone(), values);
        assert_ne!(body_digest(&load_state_dict(&model, &weights).unwrap()).unwrap(), digest, "{changed}");
    }

    let set = Shades::new(&[3, 3]);
    let other = |set: Shades| Extraction { dataset: Arc::new(set), ..one.clone() };
    let mut relabelled = set.clone();
    relabelled.labels[5] = 0;
    let mut shorter = set.clone();
    shorter.labels.pop();
    let mut normalization = one.normalization;
    normalization.std[2] *= 1.01;
    let different = [
        ("views", two.clone()),
        ("plain pipeline", Extraction { plain: one.augmented.clone(), ..one.clone() }),
        ("normalisation", Extraction { normalization, ..one.clone() }),
        ("labels", other(relabelled)),
        ("names", other(Shades { folder: "other", ..set.clone() })),
        ("number of pictures", other(shorter)),
    ];
    for (what, extraction) in different {
        assert_ne!(extraction.key(&digest), key, "{what}");
    }
    assert_ne!(one.key("another"), key);
    // Where there are other views, what draws them counts too; elsewhere it does not.
    assert_eq!(Extraction { seed: 6, augmented: one.plain.clone(), workers: 7, ..one.clone() }.key(&digest), key);
    assert_ne!(Extraction { seed: 6, ..two.clone() }.key(&digest), two.key(&digest));
    assert_ne!(Extraction { augmented: one.plain.clone(), ..two.clone() }.key(&digest), two.key(&digest));
}
