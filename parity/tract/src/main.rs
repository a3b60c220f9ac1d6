//! Exported ONNX files in tract, against the answers that timburn gave: `timburn-onnx-check PATH...`, each path a `NAME.onnx` with a
//! `NAME.safetensors` beside it, or a folder of such pairs. Exits with 1 when one differs by more than 1e-4 of its largest value.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail, ensure};

/// Of the largest value.
const TOLERANCE: f32 = 1e-4;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let files = match files(&paths) {
        Ok(files) if !files.is_empty() => files,
        Ok(_) => return failed("no .onnx file in what was named; usage: timburn-onnx-check PATH..."),
        Err(error) => return failed(&format!("{error:#}")),
    };
    let mut worst = 0f32;
    let mut bad = 0;
    for path in &files {
        let started = Instant::now();
        match check(path) {
            Ok(difference) => {
                worst = worst.max(difference);
                bad += usize::from(difference > TOLERANCE);
                println!("{difference:9.2e}  {:5.1} s  {}", started.elapsed().as_secs_f64(), path.display());
            }
            Err(error) => {
                bad += 1;
                println!("   failed           {}: {error:#}", path.display());
            }
        }
    }
    println!("{} files, largest difference {worst:.2e} of the largest value, {bad} beyond {TOLERANCE:e}", files.len());
    ExitCode::from(u8::from(bad > 0))
}

fn failed(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}

/// The models named, in folders too.
fn files(paths: &[PathBuf]) -> TractResult<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<TractResult<Vec<_>>>()?;
        inside.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

/// The largest difference, relative to the largest value, over the batch as it is and its first image alone.
fn check(path: &Path) -> TractResult<f32> {
    let bytes = std::fs::read(path.with_extension("safetensors")).context("its .safetensors")?;
    let pair = SafeTensors::deserialize(&bytes)?;
    let images = pair.tensor("images")?;
    // The number of images stays a symbol: one plan serves any batch.
    let model = tract_onnx::onnx().model_for_path(path)?.into_optimized()?;
    let kind = model.input_fact(0)?.datum_type;
    let output = model.outlet_label(model.output_outlets()?[0]).context("a named output")?.to_owned();
    let expected = pair.tensor(&output).with_context(|| format!("its .safetensors has no `{output}`"))?;
    let (expected, rows) = (floats(&expected)?, expected.shape()[0]);
    ensure!(images.shape()[0] == rows && rows > 0, "{rows} answers for {:?}", images.shape());
    let scale = expected.iter().fold(0f32, |scale, value| scale.max(value.abs()));
    ensure!(scale > 0.0 && scale.is_finite(), "nothing to compare");
    let plan = model.into_runnable()?;
    let mut worst = 0f32;
    for count in [rows, 1] {
        let results = plan.run(tvec!(input(&images, count, kind)?.into()))?;
        let found = results[0].to_plain_array_view::<f32>()?;
        let expected = &expected[..expected.len() / rows * count];
        ensure!(found.len() == expected.len(), "{} values instead of {}", found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let difference = (found - expected).abs() / scale;
            // Not a number is no maximum's equal.
            ensure!(difference.is_finite(), "{found} instead of {expected}");
            worst = worst.max(difference);
        }
    }
    Ok(worst)
}

/// The first `count` images as the model takes them; the file has f32 for bytes too.
fn input(images: &TensorView<'_>, count: usize, kind: DatumType) -> TractResult<Tensor> {
    let values = floats(images)?;
    let mut shape = images.shape().to_vec();
    let values = &values[..values.len() / shape[0] * count];
    shape[0] = count;
    Ok(Tensor::from_shape(&shape, values)?.cast_to_dt(kind)?.into_owned())
}

fn floats(tensor: &TensorView<'_>) -> TractResult<Vec<f32>> {
    ensure!(tensor.dtype() == Dtype::F32, "values of {:?}", tensor.dtype());
    Ok(tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}
