//! Runs that end badly: the exit code, what is said, and what is left.

use std::path::Path;

use timburn_train::checkpoint::CheckpointReader;
use timburn_weights::{Bundle, Precision, embedded};

use super::common::{folder, stderr, timburn};
use super::digits::{digits, train};

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_run_that_diverges_exits_with_5_names_its_pictures_and_keeps_what_was_good() {
    let folder = folder();
    digits(folder.path(), 40, 10);
    let output =
        timburn(&train("run", &["--set", "train.epochs=2", "--set", "train.lr=1e9", "--set", "checkpoints.every_steps=1"]), folder.path());
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("non-finite") && text.matches("digits/train-images-idx3-ubyte:").count() == 8, "{text}");
    let reader = CheckpointReader::new(folder.path().join("run/checkpoints"));
    let (_, newest) = reader.latest().expect("it loads").expect("the first step was good");
    assert!(newest.groups["model"].tensors.values().all(|tensor| tensor.values().expect("floats").iter().all(|x| x.is_finite())));
    assert_eq!(reader.best_path().expect("no damage"), None);
    assert!(!folder.path().join("run/model.timburn").exists());
}

#[test]
fn weights_that_are_no_numbers_exit_with_5_and_leave_nothing() {
    let folder = folder();
    digits(folder.path(), 16, 10);
    let trained = timburn(&train("good", &["--set", "train.epochs=1"]), folder.path());
    assert!(trained.status.success(), "{}", stderr(&trained));
    let mut bundle = Bundle::open(folder.path().join("good/model.timburn")).expect("a bundle");
    let bias = bundle.weights.tensors.get_mut("fc.bias").expect("a head");
    *bias = timburn_models::WeightTensor::from_f32(bias.shape.clone(), vec![f32::NAN; 10]);
    bundle.save(folder.path().join("nan.timburn"), Precision::F32).expect("writes");
    let before = entries(folder.path());
    let output = timburn(&train("run", &["--set", "model.weights=nan.timburn"]), folder.path());
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("non-finite loss on digits/train-images-idx3-ubyte:"), "{}", stderr(&output));
    assert_eq!(entries(folder.path()), before);
}

#[test]
fn a_run_that_fails_before_its_first_step_leaves_no_folder_and_can_be_tried_again() {
    let folder = folder();
    let photograph = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../timburn-data/assets/chelsea.jpg")).expect("a photograph");
    let write = |good: bool| {
        for (part, class, number) in (0..8).map(|i| (["train", "test"][i % 2], ["a", "b"][i / 2 % 2], i)) {
            let path = folder.path().join("pictures").join(part).join(class);
            std::fs::create_dir_all(&path).expect("a folder");
            let bytes = if good { photograph.as_slice() } else { b"no picture" };
            std::fs::write(path.join(format!("{number}.jpg")), bytes).expect("writes");
        }
    };
    let arguments = [
        &["train", "cifar10-resnet20", "--data", "pictures", "-o", "run", "--quiet", "--set", "train.batch_size=2"],
        &["--set", "evaluation.batch_size=2", "--set", "train.epochs=2"][..],
    ]
    .concat();
    write(false);
    let output = timburn(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(entries(folder.path()), ["pictures"]);
    // What does not fit together: a warm-up longer than the run.
    write(true);
    let output = timburn(&[&arguments[..], &["--set", "schedule.warmup={ epochs = 9.0 }"]].concat(), folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(entries(folder.path()), ["pictures"]);
    // A run that was made is not removed by the failure of another.
    let output = timburn(&arguments, folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(folder.path().join("run/model.timburn").is_file());
    let output = timburn(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(2), "occupied: {}", stderr(&output));
    assert!(folder.path().join("run/model.timburn").is_file());
}

#[test]
fn a_recipe_with_frozen_published_weights_keeps_them() {
    let folder = folder();
    digits(folder.path(), 20, 10);
    let settings = [
        "train.batch_size=10",
        "train.epochs=1",
        "augment.train.0.size=32",
        "augment.evaluation.0.size=32",
        "augment.evaluation.1.size=32",
        "data.validation=0.0",
    ];
    let mut arguments = vec!["train", "cats-and-dogs", "--data", "digits", "-o", "run", "--quiet"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let output = timburn(&arguments, folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let trained = Bundle::open(folder.path().join("run/model.timburn")).expect("a bundle").weights.tensors;
    let (mut kept, mut moved) = (0, 0);
    for (key, published) in embedded().expect("a bundle").weights.tensors.iter().filter(|(key, _)| !key.starts_with("classifier")) {
        let late = ["blocks.6", "conv_head", "bn2"].iter().any(|part| key.starts_with(part));
        let same = trained[key].values().expect("floats") == published.values().expect("floats");
        assert_eq!(same, !late, "{key}");
        if same { kept += 1 } else { moved += 1 }
    }
    assert!(kept > 100 && moved > 5, "{kept} {moved}");
}
