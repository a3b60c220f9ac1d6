//! Parameters as recipes write them: a number or a pair, and their checks.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use timburn_core::preprocessing::Interpolation;
use timburn_core::seed::Draws;
use timburn_core::{Error, Result};

use super::ops::Sampling;

/// Largest height, width or padding a transform may be asked for, in pixels: four times what any published classifier takes.
pub(crate) const MAX_SIDE: usize = 4096;
/// ImageNet's mean colour in bytes, what a pixel of 0 is after normalisation.
pub(crate) const MEAN_COLOR: [u8; 3] = [124, 116, 104];

/// Height and width in pixels: `224`, or `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// One number: a square, or the shorter side of a resize.
    Side(usize),
    /// Both.
    Exact {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
}

impl Size {
    /// Height and width, a square of a single number.
    pub fn height_width(self) -> (usize, usize) {
        match self {
            Self::Side(side) => (side, side),
            Self::Exact { height, width } => (height, width),
        }
    }

    pub(crate) fn check(self, name: &'static str) -> Result<()> {
        let (height, width) = self.height_width();
        let sides = 1..=MAX_SIDE;
        check(sides.contains(&height) && sides.contains(&width), name, (height, width), "1 to 4096 pixels")
    }
}

/// A range of random parameters as torchvision writes it: `0.4`, which the operation reads as a spread, or `[low, high]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// One number; what it means stands at the field.
    Spread(f64),
    /// Low and high end.
    Between(f64, f64),
}

impl Amount {
    /// The range, `center - spread..center + spread` of a single number.
    pub fn around(self, center: f64) -> (f64, f64) {
        match self {
            Self::Spread(spread) => (center - spread, center + spread),
            Self::Between(low, high) => (low, high),
        }
    }

    /// As torchvision's colour factors: around 1, not below 0.
    pub(crate) fn factor(self) -> (f64, f64) {
        let (low, high) = self.around(1.0);
        (low.max(0.0), high)
    }

    /// Of a spread, it must lie in `0..=most`; of a range, its ends in `low..=high`.
    pub(crate) fn check(self, name: &'static str, most: f64, (low, high): (f64, f64), expected: &str) -> Result<()> {
        let good = match self {
            Self::Spread(spread) => (0.0..=most).contains(&spread),
            Self::Between(from, to) => low <= from && from <= to && to <= high,
        };
        check(good, name, self, expected)
    }
}

/// A number or a pair of numbers.
struct Numbers<T>(fn(f64) -> Option<T>, fn(f64, f64) -> Option<T>, &'static str);

impl<'de, T> Visitor<'de> for Numbers<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.2)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        (self.0)(value).ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.visit_f64(value as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        let mut next =
            |index: usize| items.next_element::<f64>().and_then(|item| item.ok_or_else(|| de::Error::invalid_length(index, &self)));
        let (first, second) = (next(0)?, next(1)?);
        if items.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::invalid_length(3, &self));
        }
        (self.1)(first, second).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Seq, &self))
    }
}

fn whole(value: f64) -> Option<usize> {
    ((0.0..=1e9).contains(&value) && value.fract() == 0.0).then_some(value as usize)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pair = |height, width| Some(Self::Exact { height: whole(height)?, width: whole(width)? });
        deserializer.deserialize_any(Numbers(|side| whole(side).map(Self::Side), pair, "a whole number of pixels or [height, width]"))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Side(side) => side.serialize(serializer),
            Self::Exact { height, width } => [height, width].serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pair = |low, high| Some(Self::Between(low, high));
        deserializer.deserialize_any(Numbers(|spread| Some(Self::Spread(spread)), pair, "a number or [low, high]"))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Spread(spread) => spread.serialize(serializer),
            Self::Between(low, high) => [low, high].serialize(serializer),
        }
    }
}

/// A filter by name, or one of timm's two at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Nearest neighbour.
    Nearest,
    /// Bilinear.
    Bilinear,
    /// Bicubic.
    Bicubic,
    /// Lanczos; for resizes only.
    Lanczos,
    /// Bilinear or bicubic, each with probability 1/2, drawn every time (timm's training default).
    Random,
}

impl Filter {
    pub(crate) fn draw(self, draws: &mut Draws) -> Interpolation {
        match self {
            Self::Nearest => Interpolation::Nearest,
            Self::Bilinear => Interpolation::Bilinear,
            Self::Bicubic => Interpolation::Bicubic,
            Self::Lanczos => Interpolation::Lanczos,
            Self::Random if draws.chance(0.5) => Interpolation::Bilinear,
            Self::Random => Interpolation::Bicubic,
        }
    }

    /// For a warp. Lanczos does not pass [`Self::check_warp`].
    pub(crate) fn draw_sampling(self, draws: &mut Draws) -> Sampling {
        sampling(self.draw(draws))
    }

    pub(crate) fn check_warp(self, name: &'static str) -> Result<()> {
        check(self != Self::Lanczos, name, self, "nearest, bilinear, bicubic or random")
    }
}

impl From<Interpolation> for Filter {
    fn from(filter: Interpolation) -> Self {
        match filter {
            Interpolation::Nearest => Self::Nearest,
            Interpolation::Bilinear => Self::Bilinear,
            Interpolation::Bicubic => Self::Bicubic,
            Interpolation::Lanczos => Self::Lanczos,
        }
    }
}

/// The warp's counterpart; bicubic of Lanczos.
pub(crate) fn sampling(filter: Interpolation) -> Sampling {
    match filter {
        Interpolation::Nearest => Sampling::Nearest,
        Interpolation::Bilinear => Sampling::Bilinear,
        Interpolation::Bicubic | Interpolation::Lanczos => Sampling::Bicubic,
    }
}

/// An error that names the key, its value and what was expected, unless all is good.
pub(crate) fn check(good: bool, name: &'static str, value: impl fmt::Debug, expected: &str) -> Result<()> {
    if good { Ok(()) } else { Err(Error::Argument { name, value: format!("{value:?}"), expected: expected.into() }) }
}

pub(crate) fn check_probability(name: &'static str, p: f64) -> Result<()> {
    check((0.0..=1.0).contains(&p), name, p, "a probability, 0 to 1")
}

/// Low and high end of a range inside of `least..=most`.
pub(crate) fn check_range(name: &'static str, [low, high]: [f64; 2], (least, most): (f64, f64), expected: &str) -> Result<()> {
    check(least <= low && low <= high && high <= most, name, [low, high], expected)
}

pub(crate) fn half() -> f64 {
    0.5
}
