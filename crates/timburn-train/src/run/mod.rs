//! The folder of a run: what it was asked, where it ran, what it measured.
//!
//! | file | holds |
//! |---|---|
//! | `recipe.toml` | the recipe with every default filled in |
//! | `environment.json` | a list with one [`Environment`] per start |
//! | `metrics.jsonl` | one JSON object a line: `step` and what was measured |
//! | `summary.csv` | one row an epoch |
//! | `bad_files.jsonl` | every file that was left out, once, and why |
//! | `log` | the log |
//! | `events.out.tfevents.*` | for TensorBoard |
//! | `checkpoints/`, `plots/` | |
//!
//! ```
//! use timburn_train::RunFolder;
//! use timburn_train::run::{Environment, Overwrite};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("runs/first");
//! let run = RunFolder::create(&path, Overwrite::Refuse, "epochs = 2\n", &Environment::collect("cpu"))?;
//! run.append_metrics(1, &serde_json::json!({ "loss": 2.31 }))?;
//! run.append_summary(1, 390, &[("train_loss", 1.52), ("top1", 44.1)])?;
//! drop(run);
//!
//! // The last checkpoint was of step 0: what came after it will come again.
//! let run = RunFolder::resume(&path, &Environment::collect("cpu"))?;
//! run.rewind(0)?;
//! assert!(run.metrics()?.is_empty());
//! # Ok::<(), timburn_core::Error>(())
//! ```

mod crc32c;
mod environment;
mod folder;
mod lines;
mod summary;
mod tensorboard;
mod utc;

pub use environment::Environment;
pub use folder::{Overwrite, RunFolder};
pub use summary::SummaryRow;
pub use tensorboard::EventWriter;
