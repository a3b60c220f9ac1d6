//! Grad-CAM against PyTorch, and on a photograph.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;
use timburn_core::{Error, Preprocessing};
#[cfg(feature = "embedded")]
use timburn_data::Rgb8Image;
use timburn_infer::GradCam;
use timburn_models::{ImageModel, Model, ModelOptions, StateDict, WeightTensor, create, load_state_dict, parameters, state_dict};

/// Largest error allowed, relative to the largest value of a map.
const TOLERANCE: f64 = 1e-4;

/// Element `i` of the unit stream called `name`, as in `parity/formula.py`.
fn unit(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (0..count as u64).map(move |i| {
        let mut z = hash.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 * 2f32.powi(-24)
    })
}

fn value(key: &str, shape: &[usize]) -> Vec<f32> {
    let u = unit(key, shape.iter().product());
    if key.ends_with("running_mean") || (shape.len() < 2 && key.ends_with(".bias")) {
        u.map(|u| 0.2 * (u - 0.5)).collect()
    } else if shape.len() >= 2 {
        let bound = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
        u.map(|u| (2.0 * u - 1.0) * bound).collect()
    } else {
        u.map(|u| 0.5 + u).collect()
    }
}

fn formula_model(architecture: &str, device: &Device) -> Model {
    let model = create(architecture, &ModelOptions::default(), device).expect(architecture);
    let mut dict = StateDict::new("formula");
    for info in parameters(&model) {
        dict.tensors.insert(info.key.clone(), WeightTensor::from_f32(info.shape.clone(), value(&info.key, &info.shape)));
    }
    load_state_dict(&model, &dict).expect("fits")
}

fn values_of(model: &Model) -> Vec<(String, Vec<f32>)> {
    state_dict(model).tensors.into_iter().map(|(key, tensor)| (key, tensor.values().expect("in memory"))).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn maps_are_pytorchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/goldens/grad_cam.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("JSON");
    let device = timburn_core::open_device("flex").expect("flex");
    let mut checked = 0;
    for (case, stages) in cases.as_object().expect("cases") {
        let (architecture, class) = case.split_once(' ').expect("architecture and class");
        let model = formula_model(architecture.trim_start_matches("tf_"), &device);
        let before = values_of(&model);
        let size = floats(&stages["size"]);
        let shape = [1, 3, size[0] as usize, size[1] as usize];
        let values: Vec<f32> = unit("input", shape.iter().product()).map(|u| 4.0 * u - 2.0).collect();
        let images = Tensor::<4>::from_data(TensorData::new(values, shape), &device);
        for (stage, golden) in stages.as_object().expect("stages").iter().filter(|(stage, _)| *stage != "size") {
            let grad_cam = GradCam::new(&model, &Preprocessing::torchvision(32, 32), Some(stage), &device).expect(stage);
            let map = grad_cam.map_tensor(images.clone(), class.parse().ok()).expect(case);
            assert_eq!(map.class as u64, golden["class"].as_u64().expect("a class"), "{case}");
            assert_eq!((&map.stage, vec![map.height as f64, map.width as f64]), (stage, floats(&golden["shape"])), "{case}");
            let expected = floats(&golden["samples"]);
            let picked: Vec<f64> = (0..expected.len()).map(|k| f64::from(map.values[k * map.values.len() / expected.len()])).collect();
            let scale = expected.iter().fold(0f64, |scale, x| scale.max(x.abs()));
            assert!(scale > 0.0, "{case} at {stage}: a golden of zeros proves nothing");
            let worst = picked.iter().zip(&expected).fold(0f64, |worst, (a, b)| worst.max((a - b).abs())) / scale;
            println!("{case} at {stage}: {worst:.1e} (PyTorch's own f32 against f64: {})", golden["f64_error"]);
            assert!(worst <= TOLERANCE, "{case} at {stage}: {worst:.1e}\nfound    {picked:?}\nexpected {expected:?}");
            let l2 = map.values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            assert!((l2 / golden["l2"].as_f64().expect("a norm") - 1.0).abs() <= TOLERANCE, "{case} at {stage}: norm {l2}");
            assert_eq!(map.normalised().iter().copied().fold(0.0, f32::max), 1.0);
            checked += 1;
        }
        assert!(values_of(&model) == before, "{case}: the model stays as it was");
    }
    assert_eq!(checked, 10);
}

#[test]
fn what_does_not_exist_is_an_error() {
    let device = timburn_core::open_device("flex").expect("flex");
    let model = create("resnet20", &ModelOptions::default(), &device).expect("resnet20");
    let spec = Preprocessing::cifar10();
    let error = GradCam::new(&model, &spec, Some("layer9"), &device).expect_err("no such stage").to_string();
    assert!(error.contains("layer9") && error.contains("layer3"), "{error}");
    let grad_cam = GradCam::new(&model, &spec, None, &device).expect("the last stage");
    let error = grad_cam.map_tensor(Tensor::zeros([1, 3, 32, 32], &device), Some(10)).expect_err("ten classes");
    assert!(matches!(error, Error::Argument { name: "class", .. }), "{error}");
    assert!(grad_cam.map_tensor(Tensor::zeros([2, 3, 32, 32], &device), None).is_err(), "one picture at a time");
    // The other way round: one logit speaks for both of its classes.
    let detector = model.reset_classifier(1, 0, &device);
    let grad_cam = GradCam::new(&detector, &spec, None, &device).expect("the last stage");
    let images = Tensor::ones([1, 3, 32, 32], &device);
    let maps: Vec<_> = [0, 1].map(|class| grad_cam.map_tensor(images.clone(), Some(class)).expect("a map")).into();
    assert!((maps[0].probability + maps[1].probability - 1.0).abs() < 1e-6);
    assert_ne!(maps[0].values, maps[1].values);
}

#[cfg(feature = "embedded")]
#[test]
fn the_cat_is_what_speaks_for_a_cat() {
    use timburn_data::{DecodeOptions, decode_bytes};
    use timburn_infer::Predictor;

    let device = timburn_core::open_device("flex").expect("flex");
    let predictor = Predictor::embedded(&device).expect("embedded");
    let photograph = decode_bytes(timburn_data::sample_photograph(), "sample", &DecodeOptions::default()).expect("decodes");
    let grad_cam = GradCam::new(&predictor.model().expect("a model"), predictor.preprocessing(), None, &device).expect("the last stage");
    let map = grad_cam.map(&photograph, None).expect("a map");
    let prediction = predictor.classify_bytes(timburn_data::sample_photograph(), "sample").expect("classifies");
    assert_eq!(map.class, prediction.top(1)[0].index);
    assert!((map.probability - prediction.top(1)[0].probability).abs() < 1e-4);
    let overlay = map.overlay(&grad_cam.prepared(&photograph));
    assert_eq!((overlay.width, overlay.height), (224, 224));
    save("grad_cam", &overlay);
    save(
        "grad_cam_blocks.4",
        &GradCam::new(&predictor.model().expect("a model"), predictor.preprocessing(), Some("blocks.4"), &device)
            .expect("a stage")
            .overlay(&photograph, None)
            .expect("a map"),
    );

    // The model sees nothing but the cat's face in it. On a plain wall the face takes a quarter of the view, and the map has to follow it.
    let face = timburn_data::resize(&grad_cam.prepared(&photograph), FACE, FACE, timburn_core::preprocessing::Interpolation::Bicubic);
    for (left, top) in [(16, 16), (240 - FACE, 16), (16, 240 - FACE), (240 - FACE, 240 - FACE)] {
        let mut wall = Rgb8Image { width: 256, height: 256, pixels: [170, 160, 150].repeat(256 * 256) };
        for (y, row) in face.pixels.chunks_exact(FACE * 3).enumerate() {
            wall.pixels[((top + y) * 256 + left) * 3..][..FACE * 3].copy_from_slice(row);
        }
        let on_wall = grad_cam.map(&wall, Some(map.class)).expect("a map");
        save(&format!("grad_cam_{left}_{top}"), &on_wall.overlay(&grad_cam.prepared(&wall)));
        // The model sees the 224 pixels in the middle; a cell is 32 of them.
        let cell = |at: usize, start: usize| (start - 16..start - 16 + FACE).contains(&(32 * at + 16));
        let total: f32 = on_wall.values.iter().sum();
        let on_face: f32 =
            on_wall.values.iter().enumerate().filter(|(at, _)| cell(at % 7, left) && cell(at / 7, top)).map(|(_, value)| value).sum();
        println!("face at {left}, {top}: {:.0} % of the map on it, probability {:.3}", 100.0 * on_face / total, on_wall.probability);
        assert!(on_face > 0.5 * total, "face at {left}, {top}: {on_face} of {total}");
    }
}

/// Height and width of the face on the wall, in pixels.
#[cfg(feature = "embedded")]
const FACE: usize = 112;

/// Keeps a picture for people to look at, where they ask for it.
#[cfg(feature = "embedded")]
fn save(name: &str, image: &Rgb8Image) {
    if let Some(folder) = std::env::var_os("TIMBURN_PICTURES") {
        timburn_data::picture::write_png(image, Path::new(&folder).join(format!("{name}.png"))).expect("written");
    }
}
