/// What the bytes of an activation mean: `scale * (byte - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    scale: f32,
    zero_point: u8,
}

/// The least scale: reciprocals and quotients of scales stay finite.
const LEAST: f64 = 1e-15;

impl Quantization {
    /// Bytes that cover the values from `low` to `high`, and zero, which is a byte's exact value whatever the range. Values outside are clamped.
    ///
    /// `None` unless `low <= high` and both are finite.
    pub fn covering(low: f32, high: f32) -> Option<Self> {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return None;
        }
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = ((high - low) / 255.0).max(LEAST);
        Some(Self { scale: scale as f32, zero_point: (-low / scale).round_ties_even() as u8 })
    }

    /// Distance of the values of neighbouring bytes; above zero.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// The byte whose value is zero.
    pub fn zero_point(self) -> u8 {
        self.zero_point
    }

    /// The nearest byte; of NaN, the least.
    #[inline(always)]
    pub fn byte(self, value: f32) -> u8 {
        to_byte(value * (1.0 / self.scale) + f32::from(self.zero_point), [0.0, 255.0])
    }

    /// The value of a byte.
    #[inline(always)]
    pub fn value(self, byte: u8) -> f32 {
        self.scale * (i32::from(byte) - i32::from(self.zero_point)) as f32
    }
}

/// Clamps to bounds within 0 to 255, then rounds to the nearest byte, ties to even.
#[inline(always)]
pub(super) fn to_byte(value: f32, bounds: [f32; 2]) -> u8 {
    rounded(clamp(value, bounds))
}

/// Rounds a value from 0 to 255 to the nearest byte, ties to even.
#[inline(always)]
pub(super) fn rounded(value: f32) -> u8 {
    // From 2²³ on the last place of a float is a unit: the addition rounds.
    (value + 8_388_608.0).to_bits() as u8
}

/// As the processor's instructions clamp. Of NaN, the lower bound.
#[inline(always)]
pub(super) fn clamp(value: f32, [low, high]: [f32; 2]) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_the_range_is_covered() {
        for (low, high) in [(0.0, 6.0), (-1.0, 3.0), (2.0, 7.0), (-8.0, -0.5), (-1e30, 1e30), (0.0, 0.0), (0.0, 1e-40)] {
            let q = Quantization::covering(low, high).unwrap();
            assert_eq!(q.byte(0.0), q.zero_point());
            assert_eq!(q.value(q.zero_point()), 0.0);
            for value in [low, high, 0.3 * low + 0.7 * high] {
                let error = (f64::from(q.value(q.byte(value))) - f64::from(value)).abs();
                assert!(error <= 1.01 * f64::from(q.scale()), "{low} {high}: {value} is off by {error}");
            }
            assert_eq!((q.byte(f32::MIN), q.byte(f32::MAX), q.byte(f32::NAN)), (0, 255, 0));
            for byte in 0..=255 {
                assert_eq!(q.byte(q.value(byte)), byte);
            }
        }
        for (low, high) in [(f32::NAN, 1.0), (0.0, f32::NAN), (0.0, f32::INFINITY), (1.0, -1.0)] {
            assert_eq!(Quantization::covering(low, high), None);
        }
    }

    #[test]
    fn ties_go_to_even() {
        for (value, byte) in [(0.5, 0), (1.5, 2), (2.5, 2), (254.5, 254), (253.5, 254), (0.499_999_97, 0), (300.0, 255), (-1.0, 0)] {
            assert_eq!(to_byte(value, [0.0, 255.0]), byte, "{value}");
        }
    }
}
