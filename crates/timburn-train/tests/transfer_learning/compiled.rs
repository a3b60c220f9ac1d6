//! The model whose body runs as a graph, against the model.

use burn::tensor::Tensor;
use timburn_infer::Compiled;
use timburn_models::{Head, ImageModel, ModelOptions};

use crate::common::host;
use crate::{device, pretrained};

fn images() -> Tensor<4> {
    let values: Vec<f32> = crate::common::unit("images", 3 * 3 * 32 * 32).map(|u| 4.0 * u - 2.0).collect();
    Tensor::from_data(burn::tensor::TensorData::new(values, [3, 3, 32, 32]), &device())
}

#[test]
fn logits_and_features_are_the_model_s() {
    for head in [Head::Linear, Head::Fastai] {
        let model = pretrained(&ModelOptions { head, ..ModelOptions::classes(4) });
        let compiled = Compiled::new(model.clone(), &device()).unwrap();
        let pairs = [
            (compiled.forward(images()), model.forward(images())),
            (compiled.pool(compiled.forward_features(images())), model.pool(model.forward_features(images()))),
        ];
        for (found, expected) in pairs {
            assert_eq!(found.dims(), expected.dims());
            let (found, expected) = (host(found), host(expected));
            let scale = expected.iter().fold(1f32, |scale, x| scale.max(x.abs()));
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst <= 1e-4 * scale, "{worst} of {scale}");
        }
    }
}

#[test]
fn a_new_classifier_answers_itself() {
    let model = pretrained(&ModelOptions::classes(4));
    let compiled = Compiled::new(model.clone(), &device()).unwrap().reset_classifier(7, 3, &device());
    assert_eq!(compiled.num_classes(), 7);
    let found = host(compiled.forward(images()));
    assert_eq!(found, host(model.reset_classifier(7, 3, &device()).forward(images())));
}
