use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use timburn_core::preprocessing::Interpolation;
use timburn_core::{Error, Result};
use timburn_data::packed::{PackOptions, PackSize, Packed};

use timburn_data::DynDataset;

use super::parts;
use crate::output;

/// Decode and resize a data set once, into files that training reads without decoding again.
///
/// Writes OUTPUT/train.pack, and validation.pack and test.pack where the data set has these parts. OUTPUT is a data set like any other.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn data pack cifar-10-python.tar.gz cifar10/      32×32 pixels as they are
  timburn data pack photos/ packed/ --size 256           the shorter side at 256 pixels: room for random crops of 224
  timburn train recipe.toml --data packed/

A picture takes width × height × 3 bytes; a set of 100,000 photographs at --size 256 about 26 GB.")]
pub(crate) struct Pack {
    /// The data set
    path: PathBuf,
    /// Folder to write to, made if it is not there
    output: PathBuf,
    /// Shorter side in pixels; smaller pictures stay as they are [default: no resize]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Print what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: [{"file", "pictures", "bytes", "bad": [{"name", "reason"}]}]
    #[arg(long)]
    json: bool,
}

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

    pub(super) fn run(&self) -> Result<u8> {
        let splits = timburn_data::open(&self.path)?;
        let parts = parts(&splits);
        if self.dry_run {
            output::results(|out| {
                parts.iter().try_for_each(|(name, part)| {
                    writeln!(out, "{}: {} pictures", self.output.join(format!("{name}.pack")).display(), part.len())
                })
            })?;
            return Ok(0);
        }
        self.refuse_other_parts(&parts)?;
        std::fs::create_dir_all(&self.output).map_err(Error::io("create", &self.output))?;
        let size = self.size.map_or(PackSize::Original, |side| PackSize::ShorterSide(side as usize));
        let options = PackOptions { size, interpolation: Interpolation::Bicubic, ..PackOptions::default() };
        let mut written = Vec::new();
        for (name, part) in &parts {
            let file = self.output.join(format!("{name}.pack"));
            let bar = output::bar(part.len() as u64, &format!("{name} {{bar:30}} {{pos}}/{{len}} pictures, {{rate}}, {{eta}} left"));
            let report = Packed::write(part, &options, &file, |done, _| bar.set_position(done as u64))?;
            bar.finish_and_clear();
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
