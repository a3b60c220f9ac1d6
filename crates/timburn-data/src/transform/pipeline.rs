//! The ordered list of transforms.

use timburn_core::preprocessing::Interpolation;
use timburn_core::seed::Draws;
use timburn_core::{Error, Preprocessing, Result};

use super::crop::center_scaling;
use super::{Filter, Normalize, Size, Transform, ops};
use crate::image::{Region, Rgb8Image};
use crate::resize::{Scaling, resize};

/// Transforms in order, every parameter checked.
///
/// Where the list begins with a crop whose place is known from the picture's size alone, only that part has to be decoded:
///
/// ```
/// # use timburn_data::{Pipeline, Rgb8Image, transform::presets};
/// # use timburn_core::seed::Draws;
/// # let (width, height) = (320, 240);
/// # let decode_part = |region: timburn_data::Region| Rgb8Image { width: region.width, height: region.height, pixels: vec![0; region.width * region.height * 3] };
/// let pipeline = Pipeline::new(presets::imagenet_train(224))?;
/// let mut draws = Draws::new(7, &[0, 42]);
/// let sample = match pipeline.first_crop(width, height, &mut draws) {
///     Some(crop) => pipeline.apply_cropped(&decode_part(crop.region), crop, &mut draws),
///     None => unreachable!("this list begins with a crop; others take `pipeline.apply(whole_picture, &mut draws)`"),
/// };
/// assert_eq!((sample.height, sample.width), pipeline.output_size().unwrap());
/// # Ok::<_, timburn_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    steps: Vec<Transform>,
    normalization: Option<Normalize>,
}

/// The part of a picture that a pipeline needs, and what it does with it.
#[derive(Debug, Clone, Copy)]
pub struct FirstCrop {
    /// The pixels needed, of the whole picture.
    pub region: Region,
    made: Made,
}

/// What becomes of the part.
#[derive(Debug, Clone, Copy)]
enum Made {
    /// Resized to height and width: a random resized crop.
    Resized((usize, usize), Interpolation),
    /// The middle of a resize of the whole, height and width cut out or padded: resize and centre crop.
    Middle(Scaling, (usize, usize)),
}

impl Pipeline {
    /// Checks every step, and that [`Transform::Normalize`] and [`Transform::ToTensor`] stand at the end, each at most once.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first key out of range or the step out of place.
    pub fn new(transforms: Vec<Transform>) -> Result<Self> {
        transforms.iter().try_for_each(Transform::validate)?;
        let misplaced = |expected: &str| Error::Argument { name: "transforms", value: "normalize".into(), expected: expected.into() };
        let (mut steps, mut normalization, mut ended) = (Vec::new(), None, false);
        for transform in transforms {
            match transform {
                Transform::Normalize(_) if normalization.is_some() => return Err(misplaced("only once")),
                Transform::Normalize(values) => (normalization, ended) = (Some(values), true),
                Transform::ToTensor(_) => ended = true,
                _ if ended => return Err(misplaced("normalize and to_tensor at the end, after all that changes pixels")),
                step => steps.push(step),
            }
        }
        Ok(Self { steps, normalization })
    }

    /// The same list for pictures of another size: the last step that sets it makes squares of `size` pixels. For recipes whose pictures grow.
    ///
    /// # Errors
    /// [`Error::Argument`] for a size out of range, or when no step sets a size.
    pub fn with_size(mut self, size: usize) -> Result<Self> {
        let side = Size::Side(size);
        let sized = self.steps.iter_mut().rev().find_map(|step| match step {
            Transform::RandomResizedCrop(step) => Some(&mut step.size),
            Transform::RandomCrop(step) => Some(&mut step.size),
            Transform::CenterCrop(step) => Some(&mut step.size),
            _ => None,
        });
        let Some(sized) = sized else {
            let expected = "a list with a crop, whose size can be set".into();
            return Err(Error::Argument { name: "size", value: size.to_string(), expected });
        };
        *sized = side;
        self.steps.iter().try_for_each(Transform::validate)?;
        Ok(self)
    }

    /// The steps on pixels, in order.
    pub fn steps(&self) -> &[Transform] {
        &self.steps
    }

    /// Mean, standard deviation and channel order of the tensor, if the list says them.
    pub fn normalization(&self) -> Option<&Normalize> {
        self.normalization.as_ref()
    }

    /// Height and width of every result; none where they depend on the picture.
    pub fn output_size(&self) -> Option<(usize, usize)> {
        self.steps.iter().fold(None, |size, step| step.output_size(size))
    }

    /// Whether two samples of one picture can differ.
    pub fn is_random(&self) -> bool {
        self.steps.iter().any(Transform::is_random)
    }

    /// The list as a model's [`Preprocessing`]: a resize, a square centre crop and the normalisation.
    ///
    /// # Errors
    /// [`Error::Argument`] for any other list: a model's file could not say what its pictures need.
    pub fn preprocessing(&self) -> Result<Preprocessing> {
        let other = || Error::Argument {
            name: "transforms",
            value: "a list of its own".into(),
            expected: "resize, center_crop to a square and normalize, which a model's file can say".into(),
        };
        let ([Transform::Resize(resize), Transform::CenterCrop(crop)], Some(normalization)) = (self.steps.as_slice(), &self.normalization)
        else {
            return Err(other());
        };
        let (Size::Side(input), Size::Side(side)) = (crop.size, resize.size) else { return Err(other()) };
        let interpolation = match resize.interpolation {
            Filter::Nearest => Interpolation::Nearest,
            Filter::Bilinear => Interpolation::Bilinear,
            Filter::Bicubic => Interpolation::Bicubic,
            Filter::Lanczos => Interpolation::Lanczos,
            Filter::Random => return Err(other()),
        };
        let &Normalize { mean, std, channels } = normalization;
        Ok(Preprocessing { input, resize: side, mode: resize.mode, interpolation, mean, std, channels })
    }

    /// All steps in order.
    pub fn apply(&self, image: Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        match self.first_crop(image.width, image.height, draws) {
            Some(crop) if (crop.region.width, crop.region.height) == (image.width, image.height) => self.apply_cropped(&image, crop, draws),
            Some(crop) => self.apply_cropped(&image.crop(crop.region), crop, draws),
            None => self.run(0, image, draws),
        }
    }

    /// The part of a picture of `width`×`height` pixels that the list needs, where it begins with a [`super::RandomResizedCrop`], or with
    /// a [`super::Resize`] and a [`super::CenterCrop`]; none where it needs all.
    ///
    /// Then [`apply_cropped`](Self::apply_cropped) with the same draws gives what [`apply`](Self::apply) gives for the whole picture.
    pub fn first_crop(&self, width: usize, height: usize, draws: &mut Draws) -> Option<FirstCrop> {
        first_crop(&self.steps, width, height, draws)
    }

    /// The remaining steps on the pixels of `crop.region`. Pixels of another size are taken for a whole picture with the crop already
    /// done, and resized to what it makes.
    pub fn apply_cropped(&self, part: &Rgb8Image, crop: FirstCrop, draws: &mut Draws) -> Rgb8Image {
        self.run(crop.steps(), crop.finish(part), draws)
    }

    fn run(&self, first: usize, mut image: Rgb8Image, draws: &mut Draws) -> Rgb8Image {
        let mut at = first;
        while let Some(step) = self.steps.get(at) {
            // A resize with a centre crop behind it computes only what is kept, wherever it stands.
            let crop = matches!(step, Transform::Resize(_)).then(|| first_crop(&self.steps[at..], image.width, image.height, draws));
            if let Some(crop) = crop.flatten() {
                image = crop.finish(&image.crop(crop.region));
                at += crop.steps();
            } else {
                image = step.apply(image, draws);
                at += 1;
            }
        }
        image
    }
}

fn first_crop(steps: &[Transform], width: usize, height: usize, draws: &mut Draws) -> Option<FirstCrop> {
    if width == 0 || height == 0 {
        return None;
    }
    match steps {
        [Transform::RandomResizedCrop(step), ..] => {
            let region = step.region(width, height, draws);
            Some(FirstCrop { region, made: Made::Resized(step.size.height_width(), step.interpolation.draw(draws)) })
        }
        [Transform::Resize(resize), Transform::CenterCrop(crop), ..] if resize.antialias => {
            let size = crop.size.height_width();
            let scaling = center_scaling(resize, (width, height), size, draws);
            Some(FirstCrop { region: scaling.source(), made: Made::Middle(scaling, size) })
        }
        _ => None,
    }
}

impl FirstCrop {
    /// Number of steps that the crop stands for.
    fn steps(&self) -> usize {
        match self.made {
            Made::Resized(..) => 1,
            Made::Middle(..) => 2,
        }
    }

    fn finish(&self, part: &Rgb8Image) -> Rgb8Image {
        let fits = (part.width, part.height) == (self.region.width, self.region.height);
        match self.made {
            Made::Resized((height, width), filter) => resize(part, width, height, filter),
            Made::Middle(scaling, (height, width)) if fits => {
                let middle = scaling.apply(part, (self.region.left, self.region.top));
                if (middle.width, middle.height) == (width, height) { middle } else { ops::center_crop(&middle, width, height) }
            }
            Made::Middle(scaling, (height, width)) => resize(part, width, height, scaling.filter),
        }
    }
}
