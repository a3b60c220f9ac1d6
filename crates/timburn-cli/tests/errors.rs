//! What a mistake looks like: the whole of stderr and the exit code, kept as files. Each ends with what to do.
#![cfg(unix)]
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;
#[path = "common/snapshot.rs"]
mod snapshot;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{command, folder, stderr, stdout};
use timburn_models::WeightTensor;

const CAT: &[u8] = include_bytes!("../../timburn-data/assets/chelsea.jpg");

fn prepare(folder: &Path) {
    for class in ["cats", "dogs"] {
        let path = folder.join("pets").join(class);
        fs::create_dir_all(&path).expect("a folder");
        (0..5).for_each(|number| fs::write(path.join(format!("{number}.jpg")), CAT).expect("writes"));
    }
    fs::create_dir_all(folder.join("hole/cats")).expect("a folder");
    fs::create_dir_all(folder.join("hole/dogs")).expect("a folder");
    fs::write(folder.join("hole/cats/1.jpg"), CAT).expect("writes");
    fs::create_dir_all(folder.join("one/cats")).expect("a folder");
    fs::write(folder.join("one/cats/1.jpg"), CAT).expect("writes");
    fs::create_dir_all(folder.join("empty")).expect("a folder");
    fs::create_dir_all(folder.join("occupied")).expect("a folder");
    fs::write(folder.join("occupied/thesis.tex"), "mine").expect("writes");
    fs::write(folder.join("notes.txt"), "no picture").expect("writes");
    fs::write(folder.join("half.jpg"), &CAT[..CAT.len() / 2]).expect("writes");
    fs::write(folder.join("cat.jpg"), CAT).expect("writes");
    fs::write(folder.join("map.csv"), "281-285,cats\n151-268,birds\n").expect("writes");
    fs::write(folder.join("good.csv"), "281-285,cats\n151-268,dogs\n").expect("writes");
    fs::write(folder.join("typo.toml"), "[train]\nepochs = 3\nbatchsize = 2\n").expect("writes");
    fs::write(folder.join("range.toml"), "[train]\nepochs = 0\n").expect("writes");
    fs::write(folder.join("syntax.toml"), "[train]\nepochs = \n").expect("writes");
    fs::write(folder.join("garbage.pth"), [7; 100]).expect("writes");
    let mut weights = timburn_weights::pretrained_bundle("resnet20.cifar10").expect("embedded").weights;
    let kernel = weights.tensors.get_mut("conv1.weight").expect("a first layer");
    *kernel = WeightTensor::from_f32(vec![16, 3, 5, 5], vec![0.0; 16 * 3 * 25]);
    weights.tensors.remove("fc.bias");
    let file = folder.join("shape.safetensors");
    timburn_weights::write_safetensors(&weights, &file, timburn_weights::Precision::F32, &Default::default()).expect("writes");
}

#[test]
fn every_common_mistake_is_explained() {
    let folder = folder();
    prepare(folder.path());
    let cases = [
        ("no-verb", ""),
        ("unknown-verb", "trian"),
        ("unknown-option", "finetune pets --dvice cpu"),
        ("missing-argument", "eval resnet50"),
        ("bad-value", "predict cat.jpg --batch 0"),
        ("conflict", "finetune pets --head-only --epochs 3"),
        ("missing-file", "predict missing.jpg"),
        ("missing-data", "finetune nowhere"),
        ("no-picture", "predict notes.txt"),
        ("truncated-picture", "predict half.jpg"),
        ("no-pictures", "predict empty"),
        ("no-data-set", "data inspect empty"),
        ("missing-class-folder", "finetune cat.jpg"),
        ("empty-class", "finetune hole"),
        ("one-class", "finetune one"),
        ("unknown-model", "predict cat.jpg --model resnet5"),
        ("unknown-weights", "predict cat.jpg --model resnet50.tv3_in1k"),
        ("unknown-stage", "finetune pets --freeze layer9"),
        ("unknown-architecture", "models renset"),
        ("unknown-device", "predict cat.jpg --device flx"),
        ("device-index", "predict cat.jpg --device flex:7"),
        ("recipe-typo", "train typo.toml --data pets"),
        ("recipe-range", "train range.toml --data pets"),
        ("recipe-syntax", "train syntax.toml --data pets"),
        ("recipe-name", "train cifar10-resnt20 --data pets"),
        ("setting-typo", "train cifar10-resnet20 --data pets --set train.epoch=3"),
        ("recipe-without-data", "train cifar10-resnet20"),
        ("weights-offline", "predict cat.jpg --model resnet50"),
        ("weights-garbage", "predict cat.jpg --model resnet18 --weights garbage.pth"),
        ("weights-shape", "predict cat.jpg --model resnet20 --weights shape.safetensors"),
        ("weights-without-model", "predict cat.jpg --weights shape.safetensors"),
        ("weights-missing", "predict cat.jpg --weights missing.timburn"),
        ("output-exists-train", "train cifar10-resnet20 --data pets --set data.validation=0.2 --set train.batch_size=2 -o occupied"),
        ("output-exists-eval", "eval efficientnet_lite0 pets --map good.csv -o occupied"),
        ("output-exists-demo", "demo -o occupied"),
        ("output-below-file", "finetune pets -o notes.txt/run"),
        ("resume-no-run", "train --resume occupied"),
        ("export-extension", "export resnet20.cifar10 -o model.bin"),
        ("classes-differ", "eval efficientnet_lite0 pets"),
        ("map-unknown-class", "eval efficientnet_lite0 pets --map map.csv"),
        ("split-missing", "eval efficientnet_lite0 pets --split test"),
        ("fetch-unknown", "data fetch cifar1"),
        ("fetch-offline", "data fetch mnist"),
        ("preset-unknown", "data preview --preset rbs_a1"),
        ("shell-unknown", "completions tcsh"),
    ];
    let before = entries(folder.path());
    let mut texts = BTreeMap::new();
    for (name, line) in cases {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = command(&arguments, folder.path()).env("COLUMNS", "100").output().expect("the binary runs");
        let code = output.status.code().expect("an exit code");
        assert!(code != 0 && output.stdout.is_empty(), "{line}: {code} {}", stdout(&output));
        assert_eq!(entries(folder.path()), before, "{line} leaves something");
        let text = stderr(&output).replace(folder.path().to_str().expect("UTF-8"), "[FOLDER]");
        let advised =
            ["help:", "tip:", "--help", "this model has", "did you mean", "expected", "put it at", "`--", "`timburn", "choose another"];
        assert!(advised.iter().any(|words| text.contains(words)), "{line} says nothing to do:\n{text}");
        texts.insert(name.to_owned(), format!("$ timburn {line}\n{text}[exit code {code}]\n"));
    }
    snapshot::check("error", &texts);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_backend_that_is_left_out_names_its_feature() {
    let folder = folder();
    let output = command(&["predict", "--device", "cuda:0"], folder.path()).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--features cuda"), "{}", stderr(&output));
}

#[test]
fn colours_are_for_terminals_unless_they_are_forced_and_no_color_wins() {
    let folder = folder();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = command(arguments, folder.path());
        ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"].iter().for_each(|name| {
            command.env_remove(name);
        });
        let output = command.envs(variables.iter().copied()).output().expect("the binary runs");
        stdout(&output) + &stderr(&output)
    };
    for arguments in [&["predict", "missing.jpg"][..], &["--help"], &["trian"], &["doctor"]] {
        assert!(!run(arguments, &[]).contains('\u{1b}'), "{arguments:?}: a pipe");
        assert!(run(arguments, &[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'), "{arguments:?}: forced");
        assert!(!run(arguments, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'), "{arguments:?}: NO_COLOR");
        assert!(!run(arguments, &[("CLICOLOR", "1")]).contains('\u{1b}'), "{arguments:?}: a pipe is no terminal");
    }
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}
