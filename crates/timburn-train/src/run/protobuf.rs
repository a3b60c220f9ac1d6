//! As much of protocol buffers as an event needs: messages are written, never read.

/// A message being put together, field by field in ascending order.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn double(self, field: u64, value: f64) -> Self {
        self.tag(field, 1).raw(&value.to_le_bytes())
    }

    pub(super) fn float(self, field: u64, value: f32) -> Self {
        self.tag(field, 5).raw(&value.to_le_bytes())
    }

    pub(super) fn integer(self, field: u64, value: u64) -> Self {
        self.tag(field, 0).varint(value)
    }

    pub(super) fn bytes(self, field: u64, value: &[u8]) -> Self {
        self.tag(field, 2).varint(value.len() as u64).raw(value)
    }

    pub(super) fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, &value.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(self, field: u64, wire_type: u64) -> Self {
        self.varint(field << 3 | wire_type)
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}
