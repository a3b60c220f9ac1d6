//! What an evaluation leaves for people: one page with everything, the plots, the predictions, a model card.
//!
//! | file | holds |
//! |---|---|
//! | `report.html` | all of it on one page that needs no other file, no network and no script |
//! | `card.md` | the model card, in the layout of the Hugging Face hub |
//! | `predictions.csv` | what the model said of every sample; names exactly as they are, see [`Predictions::write_csv`] |
//! | `plots/*.png`, `plots/*.svg` | the charts |
//! | `plots/predictions.png`, `mistakes.png`, `grad_cam.png` | contact sheets |

mod card;
mod html;
mod interval;
mod page;
mod sections;
mod tiles;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use timburn_core::{Classes, Error, Result};
use timburn_data::loader::BadFile;
use timburn_data::picture::write_png;
use timburn_data::{DecodeOptions, Rgb8Image};

pub use card::ModelCard;
pub use interval::wilson;
pub use page::{Block, KeyNumber, ReportPage, Section, Table, Tile, TileImage};

use crate::feature_sample::FeatureSample;
use crate::metrics::Report;
use crate::plots::{Picture, embedding_map, evaluation_charts, summary_charts};
use crate::predictions::{Examination, Predictions, SamplePrediction};
use crate::run::{Environment, SummaryRow};
use tiles::Shown;

/// Samples of the set that are shown, nobody having chosen them.
const SPREAD: usize = 24;
/// Mistakes that are shown.
const MISTAKES: usize = 24;
/// Right and wrong predictions, each, that are explained.
const EXPLAINED: usize = 6;

/// Lays over a picture what speaks for a class: Grad-CAM.
pub type Explain<'a> = dyn Fn(&Rgb8Image, usize) -> Result<Rgb8Image> + 'a;

/// Everything known about a model's score. What is left out is left out of the report.
///
/// ```no_run
/// # fn report(examination: timburn_train::Examination, classes: timburn_core::Classes) -> timburn_core::Result<()> {
/// use timburn_train::report::Evidence;
///
/// let mut evidence = Evidence::new("Pets, held-out photographs", &classes, &examination);
/// evidence.facts.push(("Data".into(), "500 photographs that training never saw".into()));
/// let page = evidence.write("runs/pets")?;
/// println!("{}", page.display());
/// # Ok(())
/// # }
/// ```
pub struct Evidence<'a> {
    /// Heading of the page.
    pub title: String,
    /// A sentence or two below it.
    pub lead: String,
    /// The classes.
    pub classes: &'a Classes,
    /// The score.
    pub report: &'a Report,
    /// What was said of every sample.
    pub predictions: Option<&'a Predictions>,
    /// Features of samples, for a map of them.
    pub features: Option<&'a FeatureSample>,
    /// Pictures that could not be used.
    pub bad: &'a [BadFile],
    /// The run's epochs, for curves.
    pub summary: &'a [SummaryRow],
    /// Explains a prediction.
    pub grad_cam: Option<&'a Explain<'a>>,
    /// How the pictures that are shown are decoded. By default as a viewer does: EXIF orientation applied.
    pub decode: DecodeOptions,
    /// Names and values: data, model, command, device, time.
    pub facts: Vec<(String, String)>,
    /// The recipe, TOML.
    pub recipe: Option<String>,
    /// Baselines, comparisons.
    pub tables: Vec<Table>,
    /// What the score does not say; what follows from the numbers alone is added.
    pub limits: Vec<String>,
    /// The model card.
    pub card: Option<ModelCard>,
}

impl fmt::Debug for Evidence<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Evidence").field("title", &self.title).field("samples", &self.report.samples).finish_non_exhaustive()
    }
}

impl<'a> Evidence<'a> {
    /// What an examination found.
    pub fn new(title: impl Into<String>, classes: &'a Classes, found: &'a Examination) -> Self {
        Self {
            predictions: Some(&found.predictions),
            features: found.features.as_ref(),
            bad: &found.bad,
            ..Self::of_report(title, classes, &found.report)
        }
    }

    /// A score alone.
    pub fn of_report(title: impl Into<String>, classes: &'a Classes, report: &'a Report) -> Self {
        Self {
            title: title.into(),
            lead: String::new(),
            classes,
            report,
            predictions: None,
            features: None,
            bad: &[],
            summary: &[],
            grad_cam: None,
            decode: DecodeOptions::default(),
            facts: Vec::new(),
            recipe: None,
            tables: Vec::new(),
            limits: Vec::new(),
            card: None,
        }
    }

    /// Writes all files of the report into `folder`, which is made if need be; returns the path of the page. Files of an earlier report are
    /// replaced, each whole or not at all; the page comes last.
    ///
    /// # Errors
    /// [`Error::Io`]. Pictures that cannot be read or explained are left out and logged: they must not cost the rest of the report.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<PathBuf> {
        let folder = folder.as_ref();
        let plots = folder.join("plots");
        fs::create_dir_all(&plots).map_err(Error::io("create", &plots))?;
        if let Some(predictions) = self.predictions {
            predictions.write_csv(folder.join("predictions.csv"))?;
        }
        let content = self.content();
        for (stem, picture) in content.curves.iter().chain(&content.charts).chain(content.map.iter().map(|(picture, _)| picture)) {
            picture.save(plots.join(stem))?;
        }
        let sheets = [
            ("predictions.png", "Predictions, evenly spread over the set", &content.spread),
            ("mistakes.png", "Mistakes of highest loss", &content.mistakes),
            ("grad_cam.png", "What speaks for the predicted class", &content.explained),
        ];
        for (name, title, shown) in sheets.into_iter().filter(|(_, _, shown)| !shown.is_empty()) {
            write_png(&tiles::sheet(title, shown), plots.join(name))?;
        }
        if let Some(card) = &self.card {
            card.write(self.classes, self.report, folder.join("card.md"))?;
        }
        let page = folder.join("report.html");
        sections::page(self, &content).write(&page)?;
        Ok(page)
    }

    /// The page alone.
    pub fn page(&self) -> ReportPage {
        sections::page(self, &self.content())
    }

    fn content(&self) -> Content {
        // One epoch is a point, not a curve.
        let epochs = if self.summary.len() > 1 { self.summary } else { &[] };
        let curves = summary_charts(epochs).into_iter().map(|(stem, chart)| (stem, chart.picture())).collect();
        let map = self.features.filter(|features| features.len() > 2).map(|features| {
            let chart = embedding_map(features, self.classes);
            (("embedding", chart.picture()), chart.subtitle)
        });
        let mut content = Content { curves, charts: evaluation_charts(self.report, self.classes), map, ..Content::default() };
        let Some(predictions) = self.predictions else { return content };
        let (spread, mistakes) = (predictions.spread(SPREAD), predictions.worst(MISTAKES));
        let one = |sample: &SamplePrediction<'_>| {
            let image = tiles::picture(predictions, sample.index, &self.decode)?;
            Some(Shown::new(predictions, sample, self.classes, &image))
        };
        content.spread = spread.iter().filter_map(one).collect();
        content.mistakes = mistakes.iter().filter_map(one).collect();
        if let Some(explain) = self.grad_cam {
            // Of the right ones again evenly spread: most sets are sorted by class.
            let right: Vec<_> = spread.iter().filter(|sample| sample.is_right()).collect();
            let count = EXPLAINED.min(right.len());
            let right = (0..count).filter_map(|part| right.get((2 * part + 1) * right.len() / (2 * count)).copied());
            for sample in mistakes.iter().take(EXPLAINED).chain(right) {
                let Some(image) = tiles::picture(predictions, sample.index, &self.decode) else { continue };
                match explain(&image, sample.predicted()) {
                    Ok(overlay) => content.explained.push(Shown::new(predictions, sample, self.classes, &overlay)),
                    Err(error) => log::warn!("not explained in the report: {}: {error}", predictions.dataset().name(sample.index)),
                }
            }
        }
        content
    }
}

/// The pictures of a report.
#[derive(Default)]
struct Content {
    curves: Vec<(&'static str, Picture)>,
    charts: Vec<(&'static str, Picture)>,
    map: Option<((&'static str, Picture), String)>,
    spread: Vec<Shown>,
    mistakes: Vec<Shown>,
    explained: Vec<Shown>,
}

/// Where and with what something was computed, as names and values for [`Evidence::facts`].
pub fn environment_facts(environment: &Environment) -> Vec<(String, String)> {
    let mut facts = vec![
        ("Command".to_owned(), environment.command.join(" ")),
        ("Started".to_owned(), environment.started.clone()),
        ("Device".to_owned(), environment.device.clone()),
    ];
    let memory = environment.memory.map_or_else(String::new, |bytes| format!(", {:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let cpu = environment.cpu.as_deref().unwrap_or(&environment.architecture);
    facts.push(("Machine".to_owned(), format!("{cpu}, {} threads{memory}; {}", environment.cores, environment.os)));
    let commit = environment.commit.as_deref().map_or_else(String::new, |commit| format!(", commit {commit}"));
    facts.push(("Software".to_owned(), format!("timburn {}{commit}, {}", environment.timburn, environment.rustc)));
    facts
}
