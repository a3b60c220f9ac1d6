//! The one pixel format of timburn's pictures.

/// A picture of 8-bit RGB pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, red first, rows from the top.
    pub pixels: Vec<u8>,
}

impl std::fmt::Debug for Rgb8Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8Image({}×{})", self.width, self.height)
    }
}

impl Rgb8Image {
    /// A picture from its pixels; `None` unless there are `width * height * 3` bytes.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        let expected = width.checked_mul(height).and_then(|count| count.checked_mul(3))?;
        (pixels.len() == expected).then_some(Self { width, height, pixels })
    }

    /// The pixels of `region`, cut off where it reaches beyond the picture.
    pub fn crop(&self, region: Region) -> Self {
        let Region { left, top, width, height } = region.clipped(self.width, self.height);
        let mut pixels = Vec::with_capacity(width * height * 3);
        (top..top + height).for_each(|y| pixels.extend_from_slice(&self.pixels[(y * self.width + left) * 3..][..width * 3]));
        Self { width, height, pixels }
    }
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Region {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl Region {
    /// All of a picture.
    pub const fn whole(width: usize, height: usize) -> Self {
        Self { left: 0, top: 0, width, height }
    }

    /// The part that lies inside a picture of the given size.
    pub fn clipped(self, width: usize, height: usize) -> Self {
        let (left, top) = (self.left.min(width), self.top.min(height));
        Self { left, top, width: self.width.min(width - left), height: self.height.min(height - top) }
    }
}
