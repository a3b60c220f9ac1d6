//! `tract FILE.onnx BATCH SIZE THREADS`

use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let file = std::env::args().nth(1).expect("a file");
    let [batch, size, threads] = [2, 3, 4].map(timburn_peers::number);
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let shape = [batch, 3, size, size];
    let input = InferenceFact::dt_shape(f32::datum_type(), tvec!(batch, 3, size, size));
    let model = tract_onnx::onnx().model_for_path(file)?.with_input_fact(0, input)?.into_optimized()?.into_runnable()?;
    let images: Tensor = tract_ndarray::Array4::<f32>::from_elem(shape, 0.5).into();
    timburn_peers::serve("tract 0.23", || drop(model.run(tvec!(images.clone().into())).expect("runs")));
    Ok(())
}
