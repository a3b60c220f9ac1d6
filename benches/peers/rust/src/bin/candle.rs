//! `candle NAME BATCH SIZE`; RAYON_NUM_THREADS says how many threads.

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder, VarMap};
use candle_transformers::models::resnet::{resnet18, resnet50};

fn main() -> candle_core::Result<()> {
    let [batch, size] = [2, 3].map(timburn_peers::number);
    let map = VarMap::new();
    let parameters = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let model = match std::env::args().nth(1).as_deref() {
        Some("resnet18") => resnet18(1000, parameters)?,
        Some("resnet50") => resnet50(1000, parameters)?,
        other => candle_core::bail!("candle_transformers::models::resnet has no {other:?}"),
    };
    let images = Tensor::full(0.5f32, (batch, 3, size, size), &Device::Cpu)?;
    timburn_peers::serve("candle 0.11", || drop(model.forward(&images).expect("runs")));
    Ok(())
}
