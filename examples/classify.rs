//! Classifies pictures: `cargo run --release --example classify -- dog.jpg`

use timburn::Predictor;

fn main() -> timburn::Result<()> {
    let device = timburn::open_device("auto")?;
    let predictor = Predictor::embedded(&device)?;
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        print(&predictor.classify_bytes(timburn::sample_photograph(), "sample photograph")?);
    }
    for file in &files {
        print(&predictor.classify(file)?);
    }
    Ok(())
}

fn print(prediction: &timburn::Prediction) {
    for guess in prediction.top(5) {
        println!("{:6.2} %  {}", 100.0 * guess.probability, guess.label);
    }
}
