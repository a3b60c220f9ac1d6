//! Charts as SVG and PNG, without fonts of the system: the one for PNG is embedded.
//!
//! Every kind of chart is plain data with one method, `picture`. Colours are those of Okabe and Ito, which the colour-blind can tell apart;
//! the background is white.
//!
//! ```
//! use timburn_train::plots::{LineChart, Series};
//!
//! let loss = Series::new("train", [(1.0, 2.3), (2.0, 1.4), (3.0, 1.1)]);
//! let chart = LineChart { title: "Loss".into(), x_label: "epoch".into(), y_label: "cross-entropy".into(), series: vec![loss], ..Default::default() };
//! let picture = chart.picture();
//! assert!(picture.svg().starts_with("<svg"));
//! assert!(picture.png()?.starts_with(b"\x89PNG"));
//! # Ok::<(), timburn_core::Error>(())
//! ```

mod axis;
mod bars;
mod confusion;
mod curves;
mod evaluation;
mod line;
mod picture;
mod raster;
mod reliability;
mod scatter;
mod svg;

pub use bars::BarChart;
pub use confusion::ConfusionMatrix;
pub use curves::{lr_finder, summary_charts};
pub use evaluation::{embedding_map, evaluation_charts};
pub use line::{LineChart, Mark, Series};
pub use picture::{Color, Picture};
pub use reliability::{Bin, ReliabilityDiagram};
pub use scatter::ScatterPlot;
