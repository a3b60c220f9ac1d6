use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use timburn_core::preprocessing::Interpolation;
use timburn_core::{Error, Result};
use timburn_data::packed::{PackOptions, PackSize, Packed};
use timburn_data::{Dataset, DecodeOptions, DynDataset};

use super::{parts, spread};
use crate::commands::estimate::check_place;
use crate::interrupt::Interrupt;
use crate::output;

/// Decode and resize a data set once, into files that training reads without decoding again.
///
/// Writes OUTPUT/train.pack, and validation.pack and test.pack where the data set has these parts. OUTPUT is a data set like any other.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn data pack cifar-10-python.tar.gz cifar10/       32×32 pixels as they are
  timburn data pack photos/ packed/ --size 256            room for random crops of 224
  timburn data pack photos/ packed/ --size 256 --dry-run  how many bytes would that be?
  timburn train recipe.toml --data packed/

A picture takes width × height × 3 bytes; 100,000 photographs at --size 256 about 26 GB.")]
pub(crate) struct Pack {
    /// The data set
    #[arg(value_name = "DATA")]
    path: PathBuf,
    /// Folder to write to, made if it is not there; packed files of the same parts are replaced, each when the new one is whole
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,
    /// Shorter side in pixels; smaller pictures stay as they are [default: no resize]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Check everything, say what would be written and about how large it is, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: [{"file", "pictures", "bytes", "bad": [{"name", "reason"}]}]
    #[arg(long)]
    json: bool,
    /// No bar
    #[arg(long, short)]
    quiet: bool,
}

/// Pictures decoded for an estimate of the size.
const SAMPLED: usize = 64;

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    pictures: usize,
    bytes: u64,
    bad: Vec<Bad>,
}

#[derive(Serialize)]
struct Bad {
    name: String,
    reason: String,
}

impl Pack {
    /// A part that another data set left in the folder would become one of this set's.
    fn refuse_other_parts(&self, parts: &[(&str, DynDataset)]) -> Result<()> {
        let other = ["train", "validation", "test"].into_iter().filter(|name| !parts.iter().any(|(part, _)| part == name));
        let other = other.map(|name| self.output.join(format!("{name}.pack"))).find(|file| file.exists());
        other.map_or(Ok(()), |file| {
            let expected = "a folder without parts that this data set does not have: remove it, or choose another folder".into();
            Err(Error::Argument { name: "OUTPUT", value: file.display().to_string(), expected })
        })
    }

    /// What would be written. The size is that of a sample of the pictures, times their number.
    fn describe(&self, parts: &[(&str, DynDataset)]) -> Result<u8> {
        let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
        let mut told = Vec::new();
        for (name, part) in parts {
            let sizes: Vec<f64> = spread(part.len(), SAMPLED)
                .filter_map(|index| part.read(index).and_then(|content| content.decode(&part.name(index), &options)).ok())
                .map(|image| {
                    let scale = self.size.map_or(1.0, |side| (f64::from(side) / image.width.min(image.height) as f64).min(1.0));
                    3.0 * image.width as f64 * image.height as f64 * scale * scale
                })
                .collect();
            let bytes = sizes.iter().sum::<f64>() / sizes.len().max(1) as f64 * part.len() as f64;
            told.push((self.output.join(format!("{name}.pack")), part.len(), bytes));
        }
        if self.json {
            let row = |(file, pictures, bytes): &(PathBuf, usize, f64)| json!({ "file": file, "pictures": pictures, "estimated_bytes": bytes.round() });
            output::json(&told.iter().map(row).collect::<Vec<_>>().into())?;
            return Ok(0);
        }
        output::results(|out| {
            told.iter().try_for_each(|(file, pictures, bytes)| {
                writeln!(out, "{}: {pictures} pictures, about {:.1} MB", file.display(), bytes / 1e6)
            })
        })?;
        Ok(0)
    }

    pub(super) fn run(&self) -> Result<u8> {
        let splits = timburn_data::open(&self.path)?;
        let parts = parts(&splits);
        self.refuse_other_parts(&parts)?;
        check_place(&self.output)?;
        if self.dry_run {
            return self.describe(&parts);
        }
        let interrupt = Interrupt::listen()?;
        interrupt.settle(self.write(&parts, &interrupt))
    }

    fn write(&self, parts: &[(&str, DynDataset)], interrupt: &Interrupt) -> Result<u8> {
        std::fs::create_dir_all(&self.output).map_err(Error::io("create", &self.output))?;
        let size = self.size.map_or(PackSize::Original, |side| PackSize::ShorterSide(side as usize));
        let options = PackOptions { size, interpolation: Interpolation::Bicubic, ..PackOptions::default() };
        let mut written = Vec::new();
        for (name, part) in parts {
            let file = self.output.join(format!("{name}.pack"));
            let bar = if self.quiet {
                indicatif::ProgressBar::hidden()
            } else {
                output::bar(part.len() as u64, &format!("{name} {{bar:30}} {{pos}}/{{len}} pictures, {{rate}}, {{eta}} left"))
            };
            let report = Packed::write_until(part, &options, &file, |done, _| {
                bar.set_position(done as u64);
                if interrupt.happened() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            bar.finish_and_clear();
            let report = report?;
            let bad = report.bad.into_iter().map(|bad| Bad { name: bad.name, reason: bad.reason }).collect();
            written.push(Written { file, pictures: report.written, bytes: report.bytes, bad });
        }
        output::results(|out| {
            if self.json {
                serde_json::to_writer_pretty(&mut *out, &written)?;
                return writeln!(out);
            }
            for part in &written {
                writeln!(out, "{}: {} pictures, {:.1} MB", part.file.display(), part.pictures, part.bytes as f64 / 1e6)?;
                for bad in &part.bad {
                    writeln!(out, "  left out: {}", bad.reason)?;
                }
            }
            Ok(())
        })?;
        Ok(0)
    }
}
