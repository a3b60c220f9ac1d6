//! Examinations, and what they leave for people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::activation::softmax;
use common::{formula_weights, host, unit};
use timburn_core::{Classes, Preprocessing, Result};
use timburn_data::loader::{BadFiles, Normalization, Sampling};
use timburn_data::{Content, Dataset, DecodeOptions, DynDataset, Loader, LoaderOptions, Rgb8Image, decode_file};
use timburn_models::blocks::global_average_pool;
use timburn_models::{ImageModel, Model, ModelOptions, create, load_state_dict};
use timburn_train::predictions::SamplePrediction;
use timburn_train::recipe::TestTime;
use timburn_train::report::{Block, Evidence, KeyNumber, ModelCard, ReportPage, Section, Table};
use timburn_train::run::{Environment, SummaryRow};
use timburn_train::{Evaluator, FeatureSample, Loss, LossConfig, Metrics, Precision, Predictions};

/// Pictures made of their index.
struct Made {
    classes: Classes,
    names: Vec<String>,
    side: usize,
    /// An index whose picture cannot be read.
    bad: Option<usize>,
}

impl Made {
    fn new(classes: &[&str], count: usize, side: usize) -> Self {
        let names = (0..count).map(|index| format!("folder/{index}.png")).collect();
        Self { classes: Classes::new(classes.iter().map(ToString::to_string).collect()), names, side, bad: None }
    }

    fn picture(&self, index: usize) -> Rgb8Image {
        let pixels = unit(&format!("picture {index}"), self.side * self.side * 3).map(|u| (256.0 * u) as u8).collect();
        Rgb8Image { width: self.side, height: self.side, pixels }
    }
}

impl Dataset for Made {
    fn classes(&self) -> &Classes {
        &self.classes
    }

    fn len(&self) -> usize {
        self.names.len()
    }

    fn label(&self, index: usize) -> usize {
        (7 * index + 3) % self.classes.len()
    }

    fn name(&self, index: usize) -> String {
        self.names[index].clone()
    }

    fn read(&self, index: usize) -> Result<Content> {
        if self.bad == Some(index) { Ok(Content::Encoded(b"no picture".to_vec())) } else { Ok(Content::Pixels(self.picture(index))) }
    }
}

fn model() -> Model {
    let device = timburn_core::open_device("flex").expect("flex");
    let model = create("resnet20", &ModelOptions::default(), &device).expect("resnet20");
    load_state_dict(&model, &formula_weights(&model, 0.0)).expect("fits")
}

const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

#[test]
fn one_pass_gives_the_score_and_what_it_is_made_of() {
    let device = timburn_core::open_device("flex").expect("flex");
    let (model, spec) = (model(), Preprocessing::cifar10());
    let made = Made { bad: Some(5), ..Made::new(&TEN, 23, 32) };
    let images: Vec<Rgb8Image> = (0..23).map(|index| made.picture(index)).collect();
    let dataset: DynDataset = Arc::new(made);
    let options = LoaderOptions {
        batch_size: 6,
        sampling: Sampling::Sequential,
        bad_files: BadFiles::Skip { share: 0.1 },
        ..LoaderOptions::default()
    };
    let loader = Loader::new(dataset, Arc::new(spec.clone()), options).expect("a loader");
    let loss = Loss::new(LossConfig::default(), 10).expect("a loss");
    let evaluator = Evaluator {
        loader: &loader,
        normalization: Normalization::from(&spec),
        loss: Some(&loss),
        test_time: TestTime::None,
        top: &[1, 5],
        precision: Precision::F32,
    };
    let (report, bad) = evaluator.score(&model, &device, &mut |_| ()).expect("a score");
    let mut seen = 0;
    let found = evaluator.examine(&model, &device, 100, &mut |count| seen += count).expect("an examination");
    assert_eq!((&found.report, found.bad.len(), bad.len(), seen), (&report, 1, 1, 23));
    assert_eq!((found.predictions.len(), report.samples), (22, 22));

    let indices: Vec<usize> = found.predictions.iter().map(|sample| sample.index).collect();
    assert_eq!(indices, (0..23).filter(|index| *index != 5).collect::<Vec<_>>(), "the bad one is not counted");
    let features = found.features.as_ref().expect("asked for");
    assert_eq!((features.len(), features.width(), &features.indices), (22, 64, &indices));
    for (position, sample) in found.predictions.iter().enumerate() {
        let image = timburn_data::to_tensor(&[images[sample.index].clone()], &spec, &device).expect("a tensor");
        let probabilities = host(softmax(model.forward(image.clone()), 1));
        assert_eq!(sample.top.len(), 5);
        for best in sample.top {
            assert!((probabilities[best.class as usize] - best.probability).abs() < 1e-5);
        }
        assert!(sample.top.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
        let kept: BTreeSet<u32> = sample.top.iter().map(|best| best.class).collect();
        let left = (0..10).filter(|class| !kept.contains(class)).map(|class| probabilities[class as usize]).fold(0.0, f32::max);
        assert!(left <= sample.top[4].probability + 1e-5, "the five are the most probable");
        assert!((probabilities[sample.class] - sample.probability).abs() < 1e-5);
        assert!((-sample.probability.ln() - sample.loss).abs() < 1e-4);
        let pooled = host(global_average_pool(model.forward_features(image)));
        let row = features.rows().nth(position).expect("a row");
        assert!(pooled.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-4 * a.abs().max(1.0)), "features of {}", sample.index);
    }
    let mean = found.predictions.iter().map(|sample| f64::from(sample.loss)).sum::<f64>() / 22.0;
    assert!((mean - report.loss.expect("a loss")).abs() < 1e-5);
    let right = found.predictions.iter().filter(SamplePrediction::is_right).count();
    assert_eq!(right as f64 / 22.0, report.top(1).expect("top-1"));
    let worst = found.predictions.worst(5);
    assert!(worst.len() == 5 && worst.windows(2).all(|pair| pair[0].loss >= pair[1].loss) && worst.iter().all(|sample| !sample.is_right()));

    let few = evaluator.examine(&model, &device, 4, &mut |_| ()).expect("an examination");
    let few = few.features.expect("asked for");
    assert!(few.len() == 4 || few.len() == 3, "{}", few.len());
    assert!(few.indices.windows(2).all(|pair| pair[1] - pair[0] >= 5), "evenly spread: {:?}", few.indices);
    assert!(evaluator.examine(&model, &device, 0, &mut |_| ()).expect("an examination").features.is_none());

    // Mirrored views change the score, not the features.
    let flipped = Evaluator { test_time: TestTime::Flip, ..evaluator };
    let (a, b) = (
        flipped.score(&model, &device, &mut |_| ()).expect("a score").0,
        flipped.examine(&model, &device, 100, &mut |_| ()).expect("both"),
    );
    assert_eq!(a, b.report);
    assert_eq!(b.features.as_ref(), Some(features));
}

#[test]
fn one_logit_is_two_classes() {
    let mut predictions = Predictions::new(Arc::new(Made::new(&["no", "yes"], 4, 8)), 5);
    predictions.add(0, 1, &[2.0], None).expect("added");
    predictions.add(1, 0, &[2.0], Some(9.0)).expect("added");
    assert!(predictions.add(2, 2, &[0.0], None).is_err() && predictions.add(2, 0, &[f32::NAN], None).is_err());
    let all: Vec<_> = predictions.iter().collect();
    let yes = 1.0 / (1.0 + (-2f32).exp());
    assert_eq!((all[0].predicted(), all[0].is_right(), all[1].is_right(), all[1].loss, all.len()), (1, true, false, 9.0, 2));
    assert!((all[0].confidence() - yes).abs() < 1e-6 && (all[1].probability - (1.0 - yes)).abs() < 1e-6);
    assert_eq!(all[0].top.len(), 2);
}

const HOSTILE: [&str; 4] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(2)>",
    "a,b\n'c' &amp; | `d`",
    "javascript:alert(3) </style></svg>\u{1b}[31m",
];

/// A set of hostile names, and random predictions on it.
fn hostile() -> (DynDataset, Metrics, Predictions, FeatureSample) {
    let mut made = Made::new(&HOSTILE, 40, 24);
    made.names.iter_mut().enumerate().for_each(|(index, name)| *name = format!("{}/{index}\".png", HOSTILE[index % 4]));
    let dataset: DynDataset = Arc::new(made);
    let (mut metrics, mut predictions, mut features) =
        (Metrics::new(4, &[1]), Predictions::new(Arc::clone(&dataset), 5), FeatureSample::new(3));
    for index in 0..40 {
        let logits: Vec<f32> = unit(&format!("logits {index}"), 4).map(|u| 4.0 * u).collect();
        metrics.add(&logits, &[dataset.label(index)]).expect("added");
        predictions.add(index, dataset.label(index), &logits, None).expect("added");
        features.add(index, dataset.label(index), &logits[..3]).expect("added");
    }
    (dataset, metrics, predictions, features)
}

#[test]
fn hostile_names_are_shown_and_never_run() {
    let (dataset, metrics, predictions, features) = hostile();
    let report = metrics.report();
    let folder = tempfile::tempdir().expect("a folder");
    let explain = |image: &Rgb8Image, _: usize| Ok(image.clone());
    let rows: Vec<SummaryRow> = (1..4)
        .map(|epoch| SummaryRow {
            epoch,
            step: epoch,
            values: vec![
                ("train_loss".into(), 1.0 / epoch as f64),
                ("validation_top1".into(), 20.0 * epoch as f64),
                ("lr".into(), 0.1 / epoch as f64),
            ],
        })
        .collect();
    let bad = [timburn_data::loader::BadFile { index: 3, name: HOSTILE[1].into(), reason: HOSTILE[0].into() }];
    let mut evidence = Evidence::of_report(HOSTILE[0], dataset.classes(), &report);
    evidence.predictions = Some(&predictions);
    evidence.features = Some(&features);
    evidence.bad = &bad;
    evidence.summary = &rows;
    evidence.grad_cam = Some(&explain);
    evidence.lead = HOSTILE[1].into();
    evidence.facts = HOSTILE.map(|name| (name.to_owned(), name.to_owned())).into();
    evidence.facts.extend(timburn_train::report::environment_facts(&Environment::collect("flex")));
    evidence.recipe = Some(HOSTILE[3].into());
    evidence.limits = HOSTILE.map(str::to_owned).into();
    evidence.tables = vec![Table {
        caption: HOSTILE[1].into(),
        head: HOSTILE[..2].iter().map(ToString::to_string).collect(),
        rows: vec![HOSTILE.map(str::to_owned).into()],
    }];
    evidence.card = Some(ModelCard { name: HOSTILE[0].into(), ..ModelCard::default() });
    let path = evidence.write(folder.path()).expect("written");
    let html = fs::read_to_string(&path).expect("readable");
    check_html(&html);
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "shown as it is");
    for heading in [
        "How it was made",
        "Curves",
        "Comparison",
        "Confusion",
        "Classes",
        "Calibration",
        "Predictions",
        "Worst mistakes",
        "What the model looked at",
        "Map of the features",
        "Pictures that could not be used",
        "Limits",
    ] {
        assert!(html.contains(&format!(">{heading}</h2>")), "{heading}");
    }
    for file in ["confusion", "confusion_normalised", "classes", "reliability", "loss", "embedding"] {
        let svg = fs::read_to_string(folder.path().join(format!("plots/{file}.svg"))).expect(file);
        assert!(!svg.contains("<script") && !svg.contains("<img"), "{file}");
        assert!(fs::read(folder.path().join(format!("plots/{file}.png"))).expect(file).starts_with(b"\x89PNG"));
    }
    let card = fs::read_to_string(folder.path().join("card.md")).expect("a card");
    assert!(card.starts_with("---\n") && !card.split("---\n").nth(2).expect("a body").contains("<script"));
    assert_eq!(evidence.write(folder.path()).expect("again"), path, "a second report replaces the first");
    assert_eq!(fs::read_to_string(&path).expect("readable"), html, "the same to the byte");

    if let Some(pictures) = std::env::var_os("TIMBURN_PICTURES") {
        evidence.write(Path::new(&pictures).join("hostile")).expect("written for a look");
    }

    let mut reader = csv::Reader::from_path(folder.path().join("predictions.csv")).expect("CSV");
    assert_eq!(
        reader.headers().expect("a header").iter().take(8).collect::<Vec<_>>().join(" "),
        "index name class probability loss right top1 top1_probability"
    );
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("rows of one width");
    assert_eq!(rows.len(), 40);
    for (row, sample) in rows.iter().zip(predictions.iter()) {
        assert_eq!((&row[1], &row[2]), (dataset.name(sample.index).as_str(), HOSTILE[sample.class]));
        assert_eq!((&row[6], row[7].parse::<f32>().expect("a number")), (HOSTILE[sample.predicted()], sample.confidence()));
        assert_eq!(&row[5] == "1", sample.is_right());
    }
}

/// Programs that read the file join it with other lists by name: what a spreadsheet takes for a formula is still a name.
#[test]
fn names_like_formulas_are_written_as_they_are() {
    const FORMULAS: [&str; 5] = ["=1+1", "+cats", "-dogs", "@SUM(A1)", "\t=tab"];
    let mut made = Made::new(&FORMULAS, 10, 8);
    made.names.iter_mut().enumerate().for_each(|(index, name)| *name = format!("{}/{index}.png", FORMULAS[index % 5]));
    let dataset: DynDataset = Arc::new(made);
    let mut predictions = Predictions::new(dataset.clone(), 2);
    for index in 0..10 {
        let logits: Vec<f32> = (0..5).map(|class| if class == index % 5 { 1.0 } else { 0.0 }).collect();
        predictions.add(index, index % 5, &logits, None).expect("finite");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("predictions.csv");
    predictions.write_csv(&path).expect("written");
    let mut reader = csv::Reader::from_path(&path).expect("CSV");
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("rows");
    for (index, row) in rows.iter().enumerate() {
        assert_eq!((&row[1], &row[2], &row[6]), (dataset.name(index).as_str(), FORMULAS[index % 5], FORMULAS[index % 5]));
    }
}

#[test]
fn wrong_ones_are_framed_and_marked() {
    let (dataset, metrics, predictions, _) = hostile();
    let report = metrics.report();
    let folder = tempfile::tempdir().expect("a folder");
    let mut evidence = Evidence::of_report("title", dataset.classes(), &report);
    evidence.predictions = Some(&predictions);
    evidence.write(folder.path()).expect("written");
    let sheet = decode_file(folder.path().join("plots/predictions.png"), &DecodeOptions::default()).expect("a picture");
    let at = |x: usize, y: usize| <[u8; 3]>::try_from(&sheet.pixels[(y * sheet.width + x) * 3..][..3]).expect("a pixel");
    // Six in a row, 160 pixels each with 10 around, two lines of 17 below, a title of 27 above.
    for (number, sample) in predictions.spread(24).iter().enumerate() {
        let (left, top) = (number % 6 * 180 + 10, 27 + number / 6 * (180 + 34) + 10);
        let frame = at(left - 2, top + 80);
        assert_eq!(frame == [0xB6, 0x44, 0x00], !sample.is_right(), "frame of {number}: {frame:?}");
        // 24 pixels are enlarged six times: 144, eight from the edge. The cross is in the upper right corner.
        let center = at(left + 152 - 14, top + 8 + 14);
        assert!(sample.is_right() || center == [255; 3], "cross of {number}: {center:?}");
    }
    assert!(
        predictions.spread(24).iter().any(SamplePrediction::is_right) && predictions.spread(24).iter().any(|sample| !sample.is_right())
    );
    let html = fs::read_to_string(folder.path().join("report.html")).expect("a page");
    let wrong = predictions.spread(24).iter().filter(|sample| !sample.is_right()).count() + predictions.worst(24).len();
    assert_eq!(html.matches("<li class=\"wrong\">").count(), wrong);
    assert_eq!(html.matches(">✗</span>").count(), wrong);
    assert_eq!(html.matches("alt=\"Wrongly predicted ").count(), wrong);
}

#[test]
fn a_thousand_classes_and_fifty_thousand_samples_stay_small() {
    let names: Vec<String> = (0..1000).map(|class| format!("class number {class}")).collect();
    let mut made = Made::new(&[], 0, 200);
    made.classes = Classes::new(names);
    made.names = (0..50_000).map(|index| format!("val/{index}.JPEG")).collect();
    let dataset: DynDataset = Arc::new(made);
    let (mut metrics, mut predictions, mut features) =
        (Metrics::new(1000, &[1, 5]), Predictions::new(Arc::clone(&dataset), 5), FeatureSample::new(64));
    let mut logits = vec![0f32; 1000];
    for index in 0..50_000 {
        let label = dataset.label(index);
        let guess = if index % 4 == 0 { (label * 31 + index) % 1000 } else { label };
        (logits[label], logits[guess]) = (3.0, 8.0);
        metrics.add(&logits, &[label]).expect("added");
        predictions.add(index, label, &logits, None).expect("added");
        if index % 50 == 0 {
            let row: Vec<f32> = unit(&format!("{index}"), 64).collect();
            features.add(index, label, &row).expect("added");
        }
        (logits[label], logits[guess]) = (0.0, 0.0);
    }
    let report = metrics.report();
    let folder = tempfile::tempdir().expect("a folder");
    let mut evidence = Evidence::of_report("A thousand classes", dataset.classes(), &report);
    evidence.predictions = Some(&predictions);
    evidence.features = Some(&features);
    let explain = |image: &Rgb8Image, _: usize| Ok(image.clone());
    evidence.grad_cam = Some(&explain);
    evidence.write(folder.path()).expect("written");
    let size = |name: &str| fs::metadata(folder.path().join(name)).expect(name).len();
    println!("page {} KB, predictions {} KB", size("report.html") / 1000, size("predictions.csv") / 1000);
    // Noise is what JPEG packs worst: photographs take a fifth of it.
    assert!(size("report.html") < 5_000_000, "{}", size("report.html"));
    check_html(&fs::read_to_string(folder.path().join("report.html")).expect("a page"));
    let html = fs::read_to_string(folder.path().join("report.html")).expect("a page");
    assert!(html.contains("the 30 classes of the most frequent confusions, of 1000") && html.contains("the 30 lowest of 1000 classes"));
}

#[test]
fn nothing_to_show_is_a_page_too() {
    let html = ReportPage::default().html();
    check_html(&html);
    let classes = Classes::new(vec!["a".into(), "b".into()]);
    let report = Metrics::new(2, &[1]).report();
    let page = Evidence::of_report("empty", &classes, &report).page();
    check_html(&page.html());
    let blocks = vec![Block::Table(Table::default()), Block::Tiles(Vec::new()), Block::List(Vec::new()), Block::Facts(Vec::new())];
    let section = Section { heading: String::new(), blocks };
    check_html(&ReportPage { sections: vec![section], key_numbers: vec![KeyNumber::default()], ..ReportPage::default() }.html());
    let missing = Evidence::of_report("empty", &classes, &report).write(Path::new("/dev/null/report"));
    assert!(missing.is_err());
}

/// Elements that have no end tag in HTML; those of SVG close themselves.
const VOID: [&str; 4] = ["meta", "link", "img", "br"];

/// Every tag is closed where it has to be, attributes are quoted, anchors lead somewhere, pictures have a description, and nothing runs or
/// is loaded from elsewhere.
fn check_html(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html>"));
    let mut open: Vec<String> = Vec::new();
    let (mut ids, mut anchors) = (BTreeSet::new(), Vec::new());
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        // A quoted attribute may hold what ends a tag.
        let mut quoted = false;
        let end = rest
            .find(|char| {
                if char == '"' {
                    quoted = !quoted;
                }
                char == '>' && !quoted
            })
            .expect("a tag that ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(!name.is_empty() && name != "script" && name != "iframe" && name != "object", "<{tag}>");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "the wrong end tag");
            continue;
        }
        let mut attributes = tag[name.len()..].trim_end_matches('/').trim();
        let mut described = false;
        while !attributes.is_empty() {
            let (key, value) = attributes.split_once("=\"").unwrap_or_else(|| panic!("an attribute without quotes in <{tag}>"));
            let (value, after) = value.split_once('"').expect("a closing quote");
            attributes = after.trim_start();
            assert!(
                key.chars().all(|char| char.is_ascii_lowercase() || char == '-' || char == 'B' || char.is_ascii_digit()),
                "`{key}` in <{tag}>"
            );
            assert!(!key.starts_with("on"), "a handler in <{tag}>");
            match key {
                "id" => assert!(ids.insert(value.to_owned()), "id {value} twice"),
                "href" | "src" if value.starts_with('#') => anchors.push(value[1..].to_owned()),
                "href" | "src" => assert!(value.starts_with("data:"), "{key}={}", &value[..value.len().min(60)]),
                "alt" | "aria-label" => described = described || !value.is_empty(),
                _ => (),
            }
        }
        assert!(described || !(name == "img" || name == "svg"), "without a description: <{}>", &tag[..tag.len().min(200)]);
        if name == "style" {
            let end = rest.find("</style>").expect("an end of the style");
            assert!(!rest[..end].contains("url(") && !rest[..end].contains("@import"));
            rest = &rest[end..];
        }
        if !VOID.contains(&name.as_str()) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    assert!(anchors.iter().all(|anchor| ids.contains(anchor)), "{anchors:?} of {ids:?}");
}
