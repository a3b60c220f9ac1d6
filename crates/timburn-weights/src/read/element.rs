use timburn_models::WeightDtype;

/// Element type of a stored tensor, as a file may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Float(WeightDtype),
    /// Counters, masks and flags. They are no weights, but a strict load must be able to name them: widened to 64 bits.
    Integer {
        bytes: usize,
        signed: bool,
    },
}

impl Element {
    pub(super) const fn integer(bytes: usize, signed: bool) -> Self {
        Self::Integer { bytes, signed }
    }

    /// Bytes of one element in the file.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::Float(dtype) => dtype.size(),
            Self::Integer { bytes, .. } => bytes,
        }
    }

    /// The type that the tensor has once read.
    pub(super) const fn dtype(self) -> WeightDtype {
        match self {
            Self::Float(dtype) => dtype,
            Self::Integer { .. } => WeightDtype::I64,
        }
    }

    /// The file's bytes in the type of [`dtype`](Self::dtype).
    pub(super) fn widen(self, stored: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Float(_) | Self::Integer { bytes: 8, .. } => stored,
            Self::Integer { bytes, signed } => stored
                .chunks_exact(bytes)
                .flat_map(|chunk| {
                    let negative = signed && chunk.last().is_some_and(|top| top & 0x80 != 0);
                    let mut wide = [if negative { 0xff } else { 0 }; 8];
                    wide[..bytes].copy_from_slice(chunk);
                    wide
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_their_value() {
        assert_eq!(Element::integer(1, true).widen(vec![0xfe]), (-2i64).to_le_bytes());
        assert_eq!(Element::integer(1, false).widen(vec![0xfe]), 254i64.to_le_bytes());
        assert_eq!(Element::integer(4, true).widen((-7i32).to_le_bytes().into()), (-7i64).to_le_bytes());
    }
}
