use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use timburn_core::seed::Draws;
use timburn_core::{Error, Result};
use timburn_data::picture::{ContactSheet, Tile, contact_sheet, write_png};
use timburn_data::transform::{Transform, presets};
use timburn_data::{Dataset, DecodeOptions, Pipeline, Rgb8Image, decode_file};

use super::part;
use crate::output;

/// Draw one picture many times under a recipe's augmentations: what the model will see.
///
/// Without PICTURE, a photograph that is part of the program.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn data preview                                        torchvision's ImageNet training
  timburn data preview dog.jpg --recipe recipes/cats-and-dogs.toml
  timburn data preview dog.jpg --preset rsb_a2 --count 24
  timburn data preview flowers/ --index 17 --preset keras_generator -o preview.png")]
pub(crate) struct Preview {
    /// A picture, or a data set to take one from
    #[arg(value_name = "PICTURE|DATA")]
    path: Option<PathBuf>,
    /// Sample of the data set's training set
    #[arg(long, default_value_t = 0, value_name = "N")]
    index: usize,
    /// Augmentations of this recipe
    #[arg(long, value_name = "TOML", conflicts_with = "preset")]
    recipe: Option<PathBuf>,
    /// Augmentations of this preset: imagenet_train, cifar_train, rsb_a1, rsb_a2, rsb_a3, keras_generator
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// How many times
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=400))]
    count: u16,
    /// Decides the random draws
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// The picture to write, replaced if it is there
    #[arg(long, short, default_value = "preview.png", value_name = "PNG")]
    output: PathBuf,
    /// Print JSON: {"file", "augmentations", "count", "seed"}
    #[arg(long)]
    json: bool,
}

impl Preview {
    pub(super) fn run(&self) -> Result<u8> {
        let (image, name) = self.picture()?;
        let (transforms, source) = self.transforms()?;
        let pipeline = Pipeline::new(transforms)?;
        let original = Tile {
            caption: vec!["as it is".into(), format!("{}×{}", image.width, image.height)],
            image: image.clone(),
            frame: Some([90, 90, 90]),
        };
        let views = (0..u64::from(self.count)).map(|number| {
            let view = pipeline.apply(image.clone(), &mut Draws::new(self.seed, &[number]));
            let caption = vec![format!("{}×{}", view.width, view.height)];
            Tile { image: view, caption, frame: None }
        });
        let tiles: Vec<Tile> = [original].into_iter().chain(views).collect();
        let layout = ContactSheet { title: format!("{name} under {source}, seed {}", self.seed), columns: 8, tile: 160 };
        write_png(&contact_sheet(&tiles, &layout), &self.output)?;
        if self.json {
            output::json(&json!({ "file": self.output, "augmentations": source, "count": self.count, "seed": self.seed }))?;
            return Ok(0);
        }
        output::results(|out| writeln!(out, "{}", self.output.display()))?;
        Ok(0)
    }

    fn picture(&self) -> Result<(Rgb8Image, String)> {
        // Training does not apply EXIF orientation either.
        let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
        let Some(path) = &self.path else {
            let name = "sample photograph";
            return Ok((timburn_data::decode_bytes(timburn_data::sample_photograph(), name, &options)?, name.into()));
        };
        if path.is_file()
            && let Ok(image) = decode_file(path, &options)
        {
            return Ok((image, path.display().to_string()));
        }
        let train = part(&timburn_data::open(path)?, None)?;
        if self.index >= train.len() {
            let expected = format!("below {}, the number of training samples", train.len());
            return Err(Error::Argument { name: "--index", value: self.index.to_string(), expected });
        }
        let name = train.name(self.index);
        Ok((train.read(self.index)?.decode(&name, &options)?, name))
    }

    fn transforms(&self) -> Result<(Vec<Transform>, String)> {
        if let Some(path) = &self.recipe {
            return Ok((timburn_train::Recipe::read(path, &[])?.augment.train, path.display().to_string()));
        }
        let name = self.preset.as_deref().unwrap_or("imagenet_train");
        Ok((presets::by_name(name)?, name.to_owned()))
    }
}
