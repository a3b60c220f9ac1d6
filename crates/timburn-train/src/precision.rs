//! Precision of the computation, and the loss scale that keeps f16 gradients above zero.

use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};
use timburn_core::error::TrainError;
use timburn_core::{Error, Result};

/// Element type of convolutions and linear layers. Parameters, batch norm, loss and optimizer are always `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// bfloat16: the range of `f32`, 8 bits of precision.
    BF16,
    /// IEEE half: 11 bits of precision, largest value 65504; needs a [`LossScale`].
    F16,
}

impl Precision {
    /// The type for [`autocast`](timburn_models::autocast()); none for f32.
    pub fn dtype(self) -> Option<FloatDType> {
        match self {
            Self::F32 => None,
            Self::BF16 => Some(FloatDType::BF16),
            Self::F16 => Some(FloatDType::F16),
        }
    }

    /// Refuses a type that the device does not compute in.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(self, device: &Device) -> Result<()> {
        match self.dtype().filter(|dtype| !device.supports_dtype(*dtype)) {
            None => Ok(()),
            Some(dtype) => {
                let others =
                    [Self::BF16, Self::F16].into_iter().filter(|other| other.dtype().is_some_and(|dtype| device.supports_dtype(dtype)));
                let names: Vec<String> = others.map(|other| format!(", {other:?}").to_lowercase()).collect();
                let expected = format!("what the device supports: f32{}", names.concat());
                Err(Error::Argument { name: "train.precision", value: format!("{dtype:?}").to_lowercase(), expected })
            }
        }
    }
}

/// A loss scale that follows what the gradients bear: `torch.amp.GradScaler`.
///
/// The loss is multiplied by [`scale`](Self::scale) before the backward pass and the gradients divided by it after. A step whose gradients
/// overflow is skipped and the scale halved; after `growth_interval` good steps in a row it doubles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossScale {
    /// The current scale.
    pub scale: f64,
    /// Factor of growth, above 1.
    pub growth_factor: f64,
    /// Factor after an overflow, in `(0, 1)`.
    pub backoff_factor: f64,
    /// Good steps in a row before the scale grows.
    pub growth_interval: u32,
    /// Skipped steps in a row that are an error: the model, not the scale, is at fault then.
    pub max_skipped: u32,
    /// Good steps since the last change.
    pub good_steps: u32,
    /// Skipped steps in a row.
    pub skipped: u32,
    /// Skipped steps in all.
    pub total_skipped: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            max_skipped: 20,
            good_steps: 0,
            skipped: 0,
            total_skipped: 0,
        }
    }
}

impl LossScale {
    /// Takes in whether the step's gradients were finite; returns whether the step is to be made.
    ///
    /// # Errors
    /// [`TrainError::LossScale`] at the `max_skipped`-th skipped step in a row.
    pub fn update(&mut self, finite: bool) -> Result<bool> {
        if finite {
            self.skipped = 0;
            self.good_steps += 1;
            if self.good_steps >= self.growth_interval {
                let grown = self.scale * self.growth_factor;
                // As PyTorch: a scale that no `f32` can hold is not taken.
                if (grown as f32).is_finite() {
                    self.scale = grown;
                }
                self.good_steps = 0;
            }
            return Ok(true);
        }
        self.scale *= self.backoff_factor;
        self.good_steps = 0;
        self.skipped += 1;
        self.total_skipped += 1;
        if self.skipped >= self.max_skipped {
            return Err(TrainError::LossScale { skipped: self.skipped, scale: self.scale }.into());
        }
        Ok(false)
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(&self) -> Result<()> {
        let check = |name, value: f64, good: bool, expected: &str| {
            if good { Ok(()) } else { Err(Error::Argument { name, value: value.to_string(), expected: expected.into() }) }
        };
        let (growth, backoff) = (self.growth_factor, self.backoff_factor);
        check("loss_scale.scale", self.scale, self.scale > 0.0 && self.scale.is_finite(), "a positive number")?;
        check("loss_scale.growth_factor", growth, growth > 1.0 && growth.is_finite(), "a number above 1")?;
        check("loss_scale.backoff_factor", backoff, backoff > 0.0 && backoff < 1.0, "a number in (0, 1)")?;
        check("loss_scale.growth_interval", f64::from(self.growth_interval), self.growth_interval > 0, "1 or more")?;
        check("loss_scale.max_skipped", f64::from(self.max_skipped), self.max_skipped > 0, "1 or more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_torch() {
        // scale and growth tracker of torch.amp.GradScaler(growth_interval=3) after each of these steps
        let found = [true, true, false, true, true, true, true, false, false];
        let expected =
            [(65536.0, 1), (65536.0, 2), (32768.0, 0), (32768.0, 1), (32768.0, 2), (65536.0, 0), (65536.0, 1), (32768.0, 0), (16384.0, 0)];
        let mut scale = LossScale { growth_interval: 3, ..LossScale::default() };
        for (finite, expected) in found.into_iter().zip(expected) {
            assert_eq!(scale.update(finite).expect("few skips"), finite);
            assert_eq!((scale.scale, scale.good_steps), expected);
        }
        assert_eq!((scale.skipped, scale.total_skipped), (2, 3));
    }

    #[test]
    fn many_overflows_in_a_row_are_an_error() {
        let mut scale = LossScale { max_skipped: 3, ..LossScale::default() };
        assert!(!scale.update(false).expect("first"));
        assert!(!scale.update(false).expect("second"));
        assert!(scale.update(true).expect("a good one in between"));
        assert!(!scale.update(false).expect("first again"));
        assert!(!scale.update(false).expect("second again"));
        let error = scale.update(false).expect_err("third");
        assert!(matches!(error, Error::Train(TrainError::LossScale { skipped: 3, .. })), "{error}");
        assert_eq!(error.exit_code(), 5);
    }

    #[test]
    fn the_scale_stays_a_number() {
        let mut scale = LossScale { growth_interval: 1, ..LossScale::default() };
        for _ in 0..300 {
            scale.update(true).expect("finite");
        }
        assert!((scale.scale as f32).is_finite());
    }
}
